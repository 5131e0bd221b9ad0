"""The control API."""

from __future__ import annotations

import io

import orjson
import pytest

from tests.sandbox.client import Client, Owner

pytestmark = pytest.mark.anyio


async def test_an_account_can_be_given_everything(client: Client) -> None:
    """Id, token and quota are taken as given, and listed."""
    body = {
        "platform": "instagram",
        "id": "17841405822304914",
        "name": "greenhouse",
        "token": "EAAgiven",
        "quota_total": 3,
    }
    account = await client.control("POST", "accounts", body)
    assert account == body | {"token_state": "valid", "login": "facebook", "usage": {}, "missing_scopes": []}
    assert (await client.control("GET", "accounts"))["accounts"] == [account]
    assert await client.control("GET", f"accounts/{account['id']}") == account
    assert (await client.get(f"/{account['id']}", "EAAgiven")).status == 200


async def test_an_account_is_changed(client: Client, instagram: Owner) -> None:
    """Only what is named changes."""
    path = f"accounts/{instagram.id}"
    changed = await client.control("PATCH", path, {"name": "other", "quota_total": 5})
    assert (changed["name"], changed["quota_total"], changed["token"]) == ("other", 5, instagram.token)
    assert (await client.control("PATCH", path, {"quota_total": None}))["quota_total"] is None


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "accounts", {"platform": "friendster", "name": "x"}),
        ("POST", "accounts", {"platform": "facebook"}),
        ("POST", "accounts", {"platform": "facebook", "name": "x", "id": "not digits"}),
        ("POST", "accounts", [1]),
        ("PATCH", "settings", {"republish": "maybe"}),
        ("PATCH", "settings", {"no_such_switch": 1}),
        ("PATCH", "settings", {"image_seconds": [2, 1]}),
        ("PATCH", "settings", {"require_proof": True}),
        ("POST", "faults", {"endpoint": "no_such_endpoint"}),
        ("POST", "faults", {"endpoint": "read_account", "action": "explode"}),
        ("POST", "clock", {"advance_seconds": -1}),
        ("POST", "clock", {}),
    ],
)
async def test_a_bad_body_is_refused_in_a_sentence(client: Client, method: str, path: str, body: object) -> None:
    """400 and one sentence."""
    answer = await client.control(method, path, body, expect=400)
    assert list(answer) == ["error"]
    assert answer["error"].startswith("Expected ")
    assert "\n" not in answer["error"]


async def test_a_body_that_is_not_json_is_refused(client: Client) -> None:
    """400 and one sentence."""
    answer = await client.send("POST", "/_sandbox/accounts", data=b"{broken")
    assert (answer.status, list(answer.body)) == (400, ["error"])
    large = await client.send("POST", "/_sandbox/accounts", data=io.BytesIO(bytes(2_000_000)))
    assert (large.status, list(large.body)) == (400, ["error"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "nothing"),
        ("GET", ""),
        ("DELETE", "live"),
        ("GET", "accounts/1"),
        ("GET", "faults/1"),
        ("POST", "faults/1/resume"),
        ("GET", "faults/1/hit/2"),
    ],
)
async def test_what_there_is_not_is_404(client: Client, method: str, path: str) -> None:
    """404 and one sentence."""
    answer = await client.control(method, path, expect=404)
    assert answer["error"].startswith("Expected ")


async def test_a_taken_id_is_refused(client: Client, instagram: Owner) -> None:
    """Two accounts can't have one id."""
    body = {"platform": "instagram", "name": "x", "id": instagram.id}
    assert "taken" in (await client.control("POST", "accounts", body, expect=400))["error"]


async def test_settings_change_one_at_a_time(client: Client) -> None:
    """What is not named stays; the secret is masked."""
    before = await client.control("GET", "settings")
    changed = await client.control("PUT", "settings", {"app_secret": "hush", "quota_total": 50})
    assert changed == before | {"app_secret": "**********", "quota_total": 50}
    assert await client.control("PATCH", "settings", {}) == changed
    assert await client.control("PUT", "settings", changed) == changed


async def test_live_is_filtered(client: Client, instagram: Owner, page: Owner) -> None:
    """By a part of the media's URL and by account; rows can be left out."""
    await client.use(check_media=False)
    await client.publish(instagram, await client.container(instagram, "https://cdn.example/1.jpg"))
    photo_id = await client.photo(page, "https://cdn.example/2.jpg")
    await client.post(f"/{page.id}/photo_stories", page.token, photo_id=photo_id)
    assert await client.live_count() == 2
    assert await client.live_count("/2.jpg") == 1
    assert await client.live_count("/3.jpg") == 0
    of_page = await client.control("GET", f"live?account={page.id}")
    assert [row["photo_id"] for row in of_page["live"]] == [photo_id]
    assert await client.control("GET", "live?rows=false") == {"count": 2, "live": []}


async def test_requests_and_counts_tell_what_was_called(client: Client, instagram: Owner) -> None:
    """An entry has endpoint, account, status and fault; counts add up by endpoint."""
    fault_id = await client.fault("read_account", "error", code=4)
    await client.get(f"/{instagram.id}", instagram.token, fields="id")
    await client.get(f"/{instagram.id}/stories", instagram.token)
    await client.get("/1", instagram.token)
    requests = (await client.control("GET", "requests"))["requests"]
    assert [row["endpoint"] for row in requests] == ["read_account", "list_stories", "unresolved"]
    first = requests[0]
    assert (first["account"], first["status"], first["code"], first["fault"]) == (
        instagram.id,
        400,
        4,
        fault_id,
    )
    assert first["parameters"] == {"fields": "id"}
    filtered = (await client.control("GET", "requests?endpoint=list_stories"))["requests"]
    assert filtered == [requests[1]]
    counts = (await client.control("GET", "counts"))["counts"]
    assert counts == {"read_account": 1, "list_stories": 1, "unresolved": 1}


async def test_no_secret_reaches_the_list_of_requests(client: Client, instagram: Owner) -> None:
    """Tokens and proofs are redacted, in parameters, in odd parameters and in paths."""
    token = instagram.token
    proof = "abcdef0123456789"
    await client.get(f"/{instagram.id}", None, access_token=token, appsecret_proof=proof, note=f"my {token}")
    await client.get(f"/{instagram.id}/{token}", token)
    await client.get("/debug_token", token, input_token=token)
    await client.send("POST", f"/{instagram.id}/media", json={"access_token": token, "image_url": token})
    text = orjson.dumps(await client.control("GET", "requests")).decode()
    assert token not in text
    assert proof not in text
    assert "[redacted]" in text


async def test_the_clock_moves_ahead(client: Client) -> None:
    """It tells its time and how far it is ahead."""
    before = await client.control("GET", "clock")
    after = await client.control("POST", "clock", {"advance_seconds": 3_600})
    assert after["ahead_seconds"] == 3_600
    assert after["now"] >= before["now"] + 3_600


async def test_reset_forgets_what_happened(client: Client, instagram: Owner) -> None:
    """Objects, posts, faults, calls, quota and clock go; accounts and settings stay; no id comes again."""
    await client.use(check_media=False, quota_total=1)
    container_id = await client.container(instagram, "https://cdn.example/1.jpg")
    await client.publish(instagram, container_id)
    await client.fault("read_account", "error", times=None)
    await client.advance(100)
    await client.control("POST", "reset")
    assert await client.live_count() == 0
    assert (await client.control("GET", "requests"))["requests"] == []
    assert (await client.control("GET", "counts"))["counts"] == {}
    assert (await client.control("GET", "clock"))["ahead_seconds"] == 0
    assert (await client.get(f"/{instagram.id}", instagram.token)).status == 200
    assert (await client.get(f"/{container_id}", instagram.token)).codes == (400, 100, 33)
    again = await client.container(instagram, "https://cdn.example/1.jpg")
    assert again != container_id
    assert (await client.publish(instagram, again)).status == 200
    assert (await client.control("GET", "settings"))["quota_total"] == 1


async def test_reset_can_forget_accounts_and_settings(client: Client, instagram: Owner) -> None:
    """When they are named."""
    await client.use(quota_total=1)
    await client.control("POST", "reset", {"accounts": True, "settings": True})
    assert (await client.control("GET", "accounts"))["accounts"] == []
    assert (await client.get(f"/{instagram.id}", instagram.token)).codes == (400, 190, None)
    assert (await client.control("GET", "settings"))["quota_total"] == 100


async def test_health_tells_that_it_serves(client: Client, instagram: Owner) -> None:
    """With two figures."""
    assert await client.control("GET", "health") == {"status": "ok", "accounts": 1, "live": 0}
