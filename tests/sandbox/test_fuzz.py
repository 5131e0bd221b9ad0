"""Whatever is sent, the answer is Graph's or the control API's, and never a failure of the sandbox."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from tests.sandbox.client import Answer, Client, Owner

pytestmark = pytest.mark.anyio

_METHODS = st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "PROPFIND"])
_EDGES = st.sampled_from(
    [
        *("", "media", "media_publish", "stories", "content_publishing_limit", "photos", "photo_stories"),
        *("feed", "published_posts", "video_reels", "videos", "children", "accounts"),
        *("video_stories", "nonsense", "media/more", "%00", "%ED%A0%80", "..", "é"),
    ]
)
_NAMES = st.sampled_from(
    [
        *("media_type", "image_url", "video_url", "creation_id", "photo_id", "video_id", "upload_phase"),
        *("caption", "user_tags", "children", "is_carousel_item", "collaborators", "location_id", "thumb_offset"),
        *("alt_text", "cover_url", "trial_params", "upload_type", "share_to_feed", "message", "link", "file_url"),
        *("attached_media", "attached_media[0]", "scheduled_publish_time", "video_state", "file_size"),
        *("upload_session_id", "start_offset", "description", "batch", "grant_type"),
        *("url", "published", "fields", "limit", "since", "until", "after", "before", "status"),
        *("appsecret_proof", "appsecret_time", "input_token", "metadata"),
    ]
)
_VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["STORIES", "start", "FINISH", "false", "id", "status", "http://[", "http://x:99999/"]),
    st.sampled_from(["IMAGE", "REELS", "CAROUSEL", "VIDEO", "resumable", "transfer", "true", "[]", "{}", "[1,2]"]),
    st.sampled_from(["children{id}", "children{", "id,,{}", "attachments{subattachments}", '[{"username":1}]']),
    st.integers().map(str),
)
_PARAMETERS = st.dictionaries(_NAMES, _VALUES, max_size=4)
_TYPES = st.sampled_from(
    [
        "application/json",
        "application/json; charset=nonsense",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "text/plain",
        "image/jpeg",
        "nonsense",
    ]
)
_BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"{",
            b"[]",
            b'{"fields": "\\ud800"}',
            b'{"fields": {"a": [1]}}',
            b"--x\r\n\r\n",
            b'--x\r\nContent-Disposition: form-data; name="url"\r\n\r\nv\r\n--x--\r\n',
            b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\nv\r\n--x--\r\n',
            b"--x\r\nContent-Transfer-Encoding: nonsense\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n--x--",
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\nv\r\n--y--\r\n--x--\r\n",
        ]
    ),
)
_PATIENT = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _is_graphs(answer: Answer) -> bool:
    body: Any = answer.body
    return answer.status < 500 and isinstance(body, dict) and (answer.status == 200 or "error" in body)


@_PATIENT
@given(method=_METHODS, edge=_EDGES, parameters=_PARAMETERS, platform=st.sampled_from(["instagram", "facebook"]))
async def test_any_parameters_get_a_graph_answer(
    client: Client, *, method: str, edge: str, parameters: dict[str, str], platform: str
) -> None:
    """Any verb on any edge with any parameters."""
    await client.use(check_media=False)
    owner = await client.owner(platform)
    answer = await client.call(method, f"/v25.0/{owner.id}/{edge}", owner.token, **parameters)
    assert _is_graphs(answer), answer


@_PATIENT
@given(content_type=_TYPES, body=_BODIES, edge=_EDGES)
async def test_any_body_gets_a_graph_answer(
    client: Client, page: Owner, content_type: str, body: bytes, edge: str
) -> None:
    """Any bytes under any content type."""
    headers = {"Content-Type": content_type, "Authorization": f"Bearer {page.token}"}
    answer = await client.send("POST", f"/{page.id}/{edge}", data=body, headers=headers)
    assert _is_graphs(answer), answer


@_PATIENT
@given(
    token=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20),
    path=st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="?#"), max_size=20),
)
async def test_any_token_on_any_path_is_refused(client: Client, token: str, path: str) -> None:
    """A wrong token is 190, wherever it is sent."""
    headers = {"Authorization": f"Bearer {token}"}
    answer = await client.send("GET", f"/x{path}", headers=headers)
    assert answer.codes == (400, 190, None)


@_PATIENT
@given(path=st.sampled_from(["accounts", "settings", "faults", "clock", "reset"]), body=_BODIES)
async def test_any_control_body_gets_a_control_answer(client: Client, path: str, body: bytes) -> None:
    """Any bytes to any control call."""
    method = "PATCH" if path == "settings" else "POST"
    answer = await client.send(method, f"/_sandbox/{path}", data=body)
    assert answer.status in (200, 400)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_PARTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["GET", "POST", "DELETE", "BREW"]) | _JSON,
            "relative_url": st.sampled_from(["me", "me/feed?message=a", "//[", "?access_token=x", "/"]) | _JSON,
            "body": st.sampled_from(["message=a", "%ff", "batch=[]"]) | _JSON,
        },
    )
    | _JSON,
    max_size=4,
)


@_PATIENT
@given(parts=_PARTS)
async def test_any_batch_gets_a_graph_answer(client: Client, page: Owner, parts: Any) -> None:
    """A list of answers, or one error."""
    answer = await client.post("/", page.token, batch=json.dumps(parts))
    if answer.status == 200:
        assert all(row is None or row["code"] < 500 for row in answer.body)
    else:
        assert _is_graphs(answer), answer


@_PATIENT
@given(edge=_EDGES, body=_JSON)
async def test_any_json_gets_a_graph_answer(client: Client, page: Owner, edge: str, body: Any) -> None:
    """Of any shape, at any edge."""
    headers = {"Authorization": f"Bearer {page.token}"}
    answer = await client.send("POST", f"/{page.id}/{edge}", json=body, headers=headers)
    assert _is_graphs(answer), answer


@_PATIENT
@given(
    host=st.sampled_from(["graph.facebook.com", "graph.instagram.com", "rupload.facebook.com", "", "a:b:c", "[::1"]),
    path=st.sampled_from(["/", "/me", "/v25.0", "/graph.instagram.com", "/ig-api-upload", "/video-upload/v25.0/1"]),
    method=_METHODS,
)
async def test_any_host_gets_a_graph_answer(
    client: Client, instagram: Owner, *, host: str, path: str, method: str
) -> None:
    """Known or not, with a path for it or not; the upload host has words of its own."""
    answer = await client.send(method, path, headers={"Host": host, "Authorization": f"Bearer {instagram.token}"})
    assert answer.status < 500
    assert isinstance(answer.body, dict), answer


@_PATIENT
@given(
    headers=st.dictionaries(
        st.sampled_from(["offset", "file_size", "file_url", "Authorization"]),
        st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12),
    ),
    body=st.binary(max_size=40),
)
async def test_any_upload_gets_an_answer(
    client: Client, instagram: Owner, headers: dict[str, str], body: bytes
) -> None:
    """Any headers and any bytes for a container that awaits a file."""
    await client.use(check_media=False)
    started = await client.post(
        f"/{instagram.id}/media", instagram.token, media_type="STORIES", upload_type="resumable"
    )
    given_headers = {"Authorization": f"OAuth {instagram.token}"} | headers
    answer = await client.send("POST", started.body["uri"], headers=given_headers, data=body)
    assert answer.status < 500
    assert set(answer.body) in ({"debug_info"}, {"success", "message"}), answer


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=x"]
)
async def test_a_huge_body_is_refused(client: Client, page: Owner, content_type: str) -> None:
    """12 MB of nothing: a Graph error, and the sandbox goes on."""
    headers = {"Content-Type": content_type, "Authorization": f"Bearer {page.token}"}
    answer = await client.send("POST", f"/{page.id}/feed", data=io.BytesIO(b"a" * 12_000_000), headers=headers)
    assert answer.codes == (400, 100, None)
    assert (await client.get("/me", page.token)).status == 200


@_PATIENT
@given(form=st.dictionaries(st.sampled_from(["reset", "advance_seconds", "x"]), st.text(max_size=8), max_size=3))
async def test_any_form_of_the_page_gets_an_answer(client: Client, form: dict[str, str]) -> None:
    """Back to the page, whatever was pressed."""
    headers = {"Origin": client.url}
    answer = await client.send("POST", "/_sandbox/page", data=form, headers=headers, allow_redirects=False)
    assert answer.status == 303


@pytest.mark.parametrize(
    "header", [b"file_url: \xff\xfe", b"offset: 1\r\nfile_size: \xb2", b"offset: 0\r\nfile_size: 0"]
)
async def test_raw_bytes_in_upload_headers_get_an_answer(client: Client, page: Owner, header: bytes) -> None:
    """Headers that no client library would send."""
    started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    path = started.body["upload_url"].removeprefix(client.url)
    status = await _raw_status(
        client,
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: OAuth {page.token}\r\n".encode()
        + header
        + b"\r\nContent-Length: 0\r\n\r\n",
    )
    assert status < 500
    await client.get(f"/{started.body['video_id']}", page.token, fields="status")
    assert (await client.control("GET", "requests"))["requests"]


async def test_raw_bytes_in_a_path_get_an_answer(client: Client, page: Owner) -> None:
    """A path that is not UTF-8, with a good token."""
    head = f"Host: x\r\nAuthorization: Bearer {page.token}\r\n\r\n".encode()
    assert await _raw_status(client, b"GET /%ff%fe\xc3\xa4 HTTP/1.1\r\n" + head) < 500


async def test_a_client_that_leaves_amid_its_body_does_no_harm(client: Client, page: Owner) -> None:
    """What arrived of a video is kept, and the sandbox goes on."""
    started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    path = started.body["upload_url"].removeprefix(client.url)
    _, writer = await _connect(client)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: OAuth {page.token}\r\n"
        "offset: 0\r\nfile_size: 100\r\nContent-Length: 100\r\n\r\nabc".encode()
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await client.control("GET", "health"))["status"] == "ok"


async def _raw_status(client: Client, request: bytes) -> int:
    reader, writer = await _connect(client)
    writer.write(request)
    await writer.drain()
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


async def _connect(client: Client) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = URL(client.url)
    return await asyncio.open_connection(url.host, url.port)
