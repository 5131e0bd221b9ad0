"""Meta's hosts on one port, the tokens of each, longer-lived tokens, and batches."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.sandbox.client import Answer, Client, Owner

pytestmark = pytest.mark.anyio
SECRET = "0123456789abcdef"
DAY = 86_400


@pytest.fixture
async def unchecked(client: Client) -> Client:
    """A client whose media is not fetched."""
    await client.use(check_media=False)
    return client


@pytest.fixture
async def direct(client: Client) -> Owner:
    """An account of Instagram Login."""
    return await client.owner("instagram", login="instagram")


async def _via(client: Client, how: str, host: str, path: str, token: str, **parameters: str) -> Answer:
    """Call a host by its name, in the Host header or as the first segment of the path."""
    headers = {"Authorization": f"Bearer {token}"}
    if how == "header":
        return await client.send("GET", path, headers=headers | {"Host": host}, params=parameters)
    return await client.send("GET", f"/{host}{path}", headers=headers, params=parameters)


@pytest.mark.parametrize("how", ["header", "path"])
async def test_each_host_takes_its_own_tokens(client: Client, instagram: Owner, direct: Owner, how: str) -> None:
    """IGAA at graph.instagram.com, EAA at graph.facebook.com, both where no host is named."""
    assert direct.token.startswith("IGAA")
    assert instagram.token.startswith("EAA")
    for owner, good, bad in (
        (instagram, "graph.facebook.com", "graph.instagram.com"),
        (direct, "graph.instagram.com", "graph.facebook.com"),
    ):
        assert (await _via(client, how, good, f"/v25.0/{owner.id}", owner.token)).status == 200
        assert (await _via(client, how, bad, f"/v25.0/{owner.id}", owner.token)).codes == (400, 190, None)
        assert (await client.get(f"/{owner.id}", owner.token)).status == 200


@pytest.mark.parametrize("how", ["header", "path"])
async def test_instagrams_host_has_errors_of_its_own(client: Client, direct: Owner, how: str) -> None:
    """All but token errors are of type IGApiException."""
    unknown = await _via(client, how, "graph.instagram.com", "/v25.0/1", direct.token)
    assert (unknown.codes, unknown.error["type"]) == ((400, 100, 33), "IGApiException")
    token = await _via(client, how, "graph.instagram.com", "/v25.0/1", "IGAAwrong")
    assert token.error["type"] == "OAuthException"


async def test_a_post_goes_live_through_instagrams_host(unchecked: Client, direct: Owner) -> None:
    """By the path of the account, of its second id, and of `me`; a file can't be sent there."""
    base = f"{unchecked.url}/graph.instagram.com/v25.0"
    me = await unchecked.get(f"{base}/me", direct.token, fields="user_id,username")
    assert (me.body["user_id"], me.body["username"]) == (direct.id, "greenhouse")
    assert me.body["id"] != direct.id
    for name in (direct.id, me.body["id"], "me"):
        created = await unchecked.post(f"{base}/{name}/media", direct.token, image_url="https://cdn.example/1.jpg")
        published = await unchecked.post(f"{base}/{name}/media_publish", direct.token, creation_id=created.body["id"])
        assert published.status == 200
    assert await unchecked.live_count() == 3
    assert len((await unchecked.get(f"{base}/me/media", direct.token)).body["data"]) == 3
    refused = await unchecked.post(
        f"{base}/{direct.id}/media", direct.token, media_type="REELS", upload_type="resumable"
    )
    assert refused.codes == (400, 100, None)


async def test_upload_addresses_are_on_the_upload_host(unchecked: Client, page: Owner, instagram: Owner) -> None:
    """Named by path they can be called as they are; named by header they are Meta's own."""
    base = f"{unchecked.url}/graph.facebook.com/v24.0"
    started = await unchecked.post(f"{base}/{page.id}/video_stories", page.token, upload_phase="start")
    url = started.body["upload_url"]
    assert url == f"{unchecked.url}/rupload.facebook.com/video-upload/v24.0/{started.body['video_id']}"
    headers = {"Authorization": f"OAuth {page.token}", "file_url": "https://cdn.example/1.mp4"}
    assert (await unchecked.send("POST", url, headers=headers)).body == {"success": True}
    by_header = await unchecked.send(
        "POST",
        f"/v24.0/{instagram.id}/media",
        headers={"Authorization": f"Bearer {instagram.token}", "Host": "graph.facebook.com"},
        data={"media_type": "REELS", "upload_type": "resumable"},
    )
    container_id = by_header.body["id"]
    assert by_header.body["uri"] == f"http://rupload.facebook.com/ig-api-upload/v24.0/{container_id}"
    sent = await unchecked.send(
        "POST",
        f"/ig-api-upload/v24.0/{container_id}",
        headers={
            "Authorization": f"OAuth {instagram.token}",
            "file_url": "https://cdn.example/1.mp4",
            "Host": "rupload.facebook.com",
        },
    )
    assert sent.body == {"success": True, "message": "Upload successful."}


async def test_an_instagram_token_is_refreshed_after_a_day(client: Client, direct: Owner) -> None:
    """Not before, and not once it has expired; the new one works, and so does the old one while it lasts."""

    async def refresh(token: str, **more: str) -> Answer:
        given = {"grant_type": "ig_refresh_token", **more}
        return await client.get("/refresh_access_token", None, access_token=token, **given)

    assert (await refresh(direct.token)).codes == (400, 100, None)
    await client.advance(DAY)
    assert (await refresh(direct.token, grant_type="other")).codes == (400, 100, None)
    fresh = await refresh(direct.token)
    assert (fresh.body["token_type"], fresh.body["expires_in"]) == ("bearer", 60 * DAY)
    token = fresh.body["access_token"]
    assert token.startswith("IGAA")
    for value in (token, direct.token):
        assert (await client.get(f"/{direct.id}", value)).status == 200
    await client.advance(59 * DAY)
    assert (await client.get(f"/{direct.id}", direct.token)).codes == (400, 190, 463)
    assert (await refresh(direct.token)).codes == (400, 190, 463)
    assert (await client.get(f"/{direct.id}", token)).status == 200
    account = await client.control("GET", f"accounts/{direct.id}")
    assert account["token"] == token


async def test_only_an_instagram_token_is_refreshed(client: Client, page: Owner) -> None:
    """A Page token is none, and a missing one is 190 as well."""
    await client.advance(DAY)
    for token in (page.token, ""):
        answer = await client.get("/refresh_access_token", token, grant_type="ig_refresh_token")
        assert answer.codes == (400, 190, None)


async def _user(client: Client, *owners: Owner, **more: Any) -> str:
    body = {"name": "gardener", "accounts": [owner.id for owner in owners], **more}
    return str((await client.control("POST", "users", body))["token"])


async def test_a_person_gets_a_longer_token_and_the_pages(client: Client, page: Owner) -> None:
    """The way to a Page token: exchange, then `me/accounts`; it is good for the Page's Instagram account too."""
    await client.use(app_secret=SECRET, app_id="123456789")
    linked = await client.owner("instagram", token=page.token)
    short = await _user(client, page, linked)
    me = await client.get("/me", short)
    assert me.body["name"] == "gardener"
    exchange = {
        "grant_type": "fb_exchange_token",
        "client_id": "123456789",
        "client_secret": SECRET,
        "fb_exchange_token": short,
    }
    long = await client.get("/v25.0/oauth/access_token", None, **exchange)
    assert long.body["expires_in"] == 60 * DAY
    await client.advance(3_601)
    assert (await client.get("/me", short)).codes == (400, 190, 463)
    pages = await client.get("/me/accounts", long.body["access_token"])
    (row,) = pages.body["data"]
    assert (row["id"], row["name"], row["access_token"]) == (page.id, "greenhouse", page.token)
    assert "CREATE_CONTENT" in row["tasks"]
    fields = await client.get("/me/accounts", long.body["access_token"], fields="instagram_business_account")
    assert fields.body["data"] == [{"instagram_business_account": {"id": linked.id}}]
    assert (await client.get("/oauth/access_token", None, **exchange)).codes == (400, 190, 463)
    wrong = exchange | {"client_secret": "wrong"}
    assert (await client.get("/oauth/access_token", None, **wrong)).codes == (400, 101, None)
    other = exchange | {"grant_type": "other"}
    assert (await client.get("/oauth/access_token", None, **other)).codes == (400, 100, None)
    unknown = exchange | {"fb_exchange_token": page.token}
    assert (await client.get("/oauth/access_token", None, **unknown)).codes == (400, 190, None)


async def test_me_is_the_page_of_a_page_token(client: Client, page: Owner) -> None:
    """Also where its token serves an Instagram account; it has no accounts edge."""
    await client.owner("instagram", token=page.token)
    assert (await client.get("/me", page.token)).body == {"name": "greenhouse", "id": page.id}
    assert (await client.get("/me/accounts", page.token)).codes == (400, 100, 33)


async def test_debug_token_knows_the_kinds(client: Client, page: Owner, direct: Owner) -> None:
    """A Page token never expires, the others in 60 days; scopes are those of the login."""
    await client.use(app_secret=SECRET, app_id="123456789")
    user = await _user(client, page, long_lived=True)

    async def inspect(token: str) -> Any:
        answer = await client.get("/debug_token", f"123456789|{SECRET}", input_token=token)
        return answer.body["data"]

    found = {name: await inspect(token) for name, token in (("page", page.token), ("user", user), ("ig", direct.token))}
    assert [found[name]["type"] for name in ("page", "user", "ig")] == ["PAGE", "USER", "USER"]
    assert found["page"]["expires_at"] == 0
    assert found["user"]["expires_at"] - found["user"]["issued_at"] == 60 * DAY
    assert found["ig"]["scopes"] == ["instagram_business_basic", "instagram_business_content_publish"]
    assert "profile_id" not in found["user"]
    await client.advance(60 * DAY)
    expired = await inspect(direct.token)
    assert (expired["is_valid"], expired["error"]["subcode"]) == (False, 463)


async def test_orders_about_tokens_are_checked(client: Client, page: Owner, direct: Owner) -> None:
    """A Page has no Instagram Login, tokens of two kinds are not one, and a User token is unique."""
    for body in (
        {"platform": "facebook", "name": "x", "login": "instagram"},
        {"platform": "facebook", "name": "x", "token": direct.token},
    ):
        assert (await client.control("POST", "accounts", body, expect=400))["error"].startswith("Expected ")
    taken = {"name": "x", "token": page.token}
    assert "taken" in (await client.control("POST", "users", taken, expect=400))["error"]
    await client.control("POST", "users", {"name": "x", "accounts": ["1"]}, expect=404)


async def _batch(client: Client, parts: Any, token: str | None, **more: str) -> Answer:
    text = parts if isinstance(parts, str) else orjson.dumps(parts).decode()
    return await client.post("/", token, batch=text, **more)


async def test_a_batch_answers_each_call_by_itself(unchecked: Client, page: Owner, instagram: Owner) -> None:
    """Bodies are text; one that fails does not fail the others; a call may bring its own token."""
    await unchecked.fault("list_stories", "drop")
    answer = await _batch(
        unchecked,
        [
            {"method": "GET", "relative_url": f"v25.0/{page.id}?fields=name"},
            {"method": "POST", "relative_url": f"{page.id}/feed", "body": "message=Good%20morning"},
            {"method": "GET", "relative_url": f"{page.id}/stories"},
            {"method": "GET", "relative_url": instagram.id},
            {"relative_url": f"{instagram.id}?access_token={instagram.token}"},
        ],
        page.token,
    )
    rows = answer.body
    assert [row and row["code"] for row in rows] == [200, 200, None, 400, 200]
    assert orjson.loads(rows[0]["body"]) == {"name": "greenhouse", "id": page.id}
    assert orjson.loads(rows[3]["body"])["error"]["code"] == 100
    assert {"name": "Content-Type", "value": "application/json; charset=UTF-8"} in rows[0]["headers"]
    assert await unchecked.live_count() == 1
    counts = (await unchecked.control("GET", "counts"))["counts"]
    assert (counts["batch"], counts["create_post"], counts["unresolved"]) == (1, 1, 1)


@pytest.mark.parametrize(
    "parts", ["broken", "{}", "[]", "[1]", '[{"method":"BREW","relative_url":"1"}]', '[{"method":"GET"}]']
)
async def test_a_bad_batch_is_refused(client: Client, page: Owner, parts: str) -> None:
    """As a whole; and so is one of more than 50 calls, or without a token."""
    assert (await _batch(client, parts, page.token)).codes == (400, 100, None)
    many = [{"method": "GET", "relative_url": "me"}] * 51
    assert (await _batch(client, many, page.token)).codes == (400, 100, None)
    assert (await _batch(client, many[:1], "EAAwrong")).codes == (400, 190, None)


async def test_limits_answer_as_the_switches_say(client: Client, page: Owner) -> None:
    """HTTP status, Retry-After, X-Page-Usage and the app's usage are not documented or vary."""
    await client.fault("read_account", "error", code=32, times=2)
    plain = await client.get(f"/{page.id}", page.token)
    assert (plain.codes, plain.headers.get("Retry-After")) == ((400, 32, None), None)
    assert "X-Page-Usage" not in plain.headers
    await client.use(http_status_limits=429, retry_after_seconds=90, page_usage_header=True, app_usage_percent=80)
    limited = await client.get(f"/{page.id}", page.token)
    assert (limited.codes, limited.headers["Retry-After"]) == ((429, 32, None), "90")
    assert orjson.loads(limited.headers["X-App-Usage"])["call_count"] == 80
    await client.control("PATCH", f"accounts/{page.id}", {"usage": {"total_time": 91}})
    good = await client.get(f"/{page.id}", page.token)
    assert orjson.loads(good.headers["X-Page-Usage"]) == {"call_count": 0, "total_cputime": 0, "total_time": 91}
    assert "Retry-After" not in good.headers
