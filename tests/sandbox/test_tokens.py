"""Tokens and proofs come before everything else."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any

import orjson
import pytest

from tests.sandbox.client import Client, Owner

pytestmark = pytest.mark.anyio
SECRET = "0123456789abcdef"


@pytest.mark.parametrize("path", ["/{id}", "/1", "/", "/{id}/nonsense", "/v25.0/{id}/stories", "/debug_token"])
@pytest.mark.parametrize("token", [None, "EAAwrong"])
async def test_a_token_is_checked_before_the_path(
    client: Client, instagram: Owner, path: str, token: str | None
) -> None:
    """Without a good token nothing is told about the path."""
    answer = await client.get(path.format(id=instagram.id), token)
    assert answer.status == 400
    message = "Invalid OAuth access token - Cannot parse access token"
    assert answer.error == {"message": message, "type": "OAuthException", "code": 190}
    assert answer.headers["WWW-Authenticate"] == f'OAuth "Facebook Platform" "invalid_token" "{message}"'
    assert "X-Business-Use-Case-Usage" not in answer.headers


async def test_a_token_comes_in_four_ways(client: Client, page: Owner) -> None:
    """Query, form, JSON and header are all taken, and numbers and booleans in JSON too."""
    path = f"/v26.0/{page.id}/photo_stories"
    assert (await client.send("POST", path, params={"access_token": page.token})).codes == (400, 100, None)
    assert (await client.send("POST", path, data={"access_token": page.token})).codes == (400, 100, None)
    body: dict[str, Any] = {"access_token": page.token, "photo_id": 12, "published": False, "none": None}
    assert (await client.send("POST", path, json=body)).codes == (400, 100, None)
    for scheme in ("Bearer", "OAuth", "bearer"):
        headers = {"Authorization": f"{scheme} {page.token}"}
        assert (await client.send("POST", path, headers=headers)).codes == (400, 100, None)


async def test_a_token_reaches_only_its_accounts(client: Client, instagram: Owner, page: Owner) -> None:
    """Another's object does not exist, in the documented words."""
    answer = await client.get(f"/{page.id}", instagram.token)
    assert answer.status == 400
    assert answer.error == {
        "message": f"Unsupported get request. Object with ID '{page.id}' does not exist, cannot be loaded due "
        "to missing permissions, or does not support this operation. Please read the Graph API documentation "
        "at https://developers.facebook.com/docs/graph-api",
        "type": "GraphMethodException",
        "code": 100,
        "error_subcode": 33,
    }


async def test_one_token_serves_a_page_and_its_instagram_account(client: Client, page: Owner) -> None:
    """As a Page token does."""
    linked = await client.owner("instagram", token=page.token)
    assert (await client.get(f"/{linked.id}", page.token)).status == 200
    assert (await client.get(f"/{page.id}", page.token)).status == 200


@pytest.mark.parametrize(
    ("state", "subcode"),
    [("expired", 463), ("password_changed", 460), ("unconfirmed", 464), ("role_lost", 492)],
)
async def test_a_dead_token_says_why(client: Client, instagram: Owner, state: str, subcode: int) -> None:
    """Each state has its subcode; a valid token works again."""
    await client.control("PATCH", f"accounts/{instagram.id}", {"token_state": state})
    answer = await client.get(f"/{instagram.id}", instagram.token)
    assert answer.codes == (400, 190, subcode)
    await client.use(http_status_190=401)
    assert (await client.get(f"/{instagram.id}", instagram.token)).status == 401
    await client.control("PATCH", f"accounts/{instagram.id}", {"token_state": "valid"})
    assert (await client.get(f"/{instagram.id}", instagram.token)).status == 200


async def test_a_new_token_replaces_the_old(client: Client, instagram: Owner) -> None:
    """After a new login the old token is unknown."""
    await client.control("PATCH", f"accounts/{instagram.id}", {"token": "EAAnewtoken"})
    assert (await client.get(f"/{instagram.id}", instagram.token)).codes == (400, 190, None)
    assert (await client.get(f"/{instagram.id}", "EAAnewtoken")).status == 200


def _proof(message: str) -> str:
    return hmac.new(SECRET.encode(), message.encode(), hashlib.sha256).hexdigest()


async def test_a_required_proof_is_missed(client: Client, instagram: Owner) -> None:
    """A call without a proof is refused in the documented words."""
    await client.use(app_secret=SECRET, require_proof=True)
    answer = await client.get(f"/{instagram.id}", instagram.token)
    assert answer.status == 400
    assert answer.error == {
        "message": "API calls from the server require an appsecret_proof argument",
        "type": "GraphMethodException",
        "code": 100,
    }


async def test_both_forms_of_a_proof_work(client: Client, instagram: Owner) -> None:
    """Over the token alone, and over the token and a time."""
    await client.use(app_secret=SECRET, require_proof=True)
    path, now = f"/{instagram.id}", str(int(time.time()))
    untimed = await client.get(path, instagram.token, appsecret_proof=_proof(instagram.token))
    assert untimed.status == 200
    timed = _proof(f"{instagram.token}|{now}")
    answer = await client.get(path, instagram.token, appsecret_proof=timed, appsecret_time=now)
    assert answer.status == 200


@pytest.mark.parametrize("age_seconds", [None, 400])
async def test_a_wrong_or_old_proof_is_refused(client: Client, instagram: Owner, age_seconds: int | None) -> None:
    """A proof that is sent is checked, required or not; a timed one is good for five minutes."""
    await client.use(app_secret=SECRET)
    parameters = {"appsecret_proof": _proof("another token")}
    if age_seconds is not None:
        then = str(int(time.time()) - age_seconds)
        parameters = {"appsecret_proof": _proof(f"{instagram.token}|{then}"), "appsecret_time": then}
    answer = await client.get(f"/{instagram.id}", instagram.token, **parameters)
    assert answer.codes == (400, 100, None)
    assert answer.error["message"] == "Invalid appsecret_proof provided in the API argument"
    garbled = await client.get(f"/{instagram.id}", instagram.token, appsecret_proof="ä", appsecret_time="x")
    assert garbled.codes == (400, 100, None)


async def test_debug_token_tells_about_a_token(client: Client, page: Owner) -> None:
    """Valid, dead and unknown tokens are all HTTP 200; the subcode has another name here."""
    await client.use(app_secret=SECRET, app_id="123456789")
    app_token = f"123456789|{SECRET}"

    async def inspect(token: str) -> dict[str, Any]:
        answer = await client.get("/debug_token", app_token, input_token=token)
        assert answer.status == 200
        data: dict[str, Any] = answer.body["data"]
        return data

    good = await inspect(page.token)
    assert good["is_valid"] is True
    assert (good["type"], good["app_id"], good["expires_at"]) == ("PAGE", "123456789", 0)
    assert good["granular_scopes"][0]["target_ids"] == [page.id]
    await client.control("PATCH", f"accounts/{page.id}", {"token_state": "password_changed"})
    dead = await inspect(page.token)
    assert dead["is_valid"] is False
    assert (dead["error"]["code"], dead["error"]["subcode"]) == (190, 460)
    assert (await inspect("EAAunknown"))["is_valid"] is False
    assert (await client.get("/debug_token", app_token)).codes == (400, 100, None)
    assert (await client.get(f"/{page.id}", app_token)).codes == (400, 100, 33)


async def test_usage_headers_name_the_account(client: Client, instagram: Owner, page: Owner) -> None:
    """Instagram's header has two entries, a Page's one, errors have them too, all in whole percentages."""
    await client.control("PATCH", f"accounts/{page.id}", {"usage": {"call_count": 42}})
    of_page = await client.get(f"/{page.id}", page.token)
    assert orjson.loads(of_page.headers["X-Business-Use-Case-Usage"]) == {
        page.id: [
            {
                "type": "pages",
                "call_count": 42,
                "total_cputime": 0,
                "total_time": 0,
                "estimated_time_to_regain_access": 0,
            }
        ]
    }
    of_instagram = await client.get("/1", instagram.token)
    usage = orjson.loads(of_instagram.headers["X-Business-Use-Case-Usage"])
    assert len(usage) == 2
    assert usage[instagram.id][0]["type"] == "instagram"
    assert orjson.loads(of_instagram.headers["X-App-Usage"]) == {
        "call_count": 0,
        "total_cputime": 0,
        "total_time": 0,
    }
    await client.use(app_usage_header=False)
    assert "X-App-Usage" not in (await client.get(f"/{page.id}", page.token)).headers


@pytest.mark.parametrize(
    ("platform", "login", "scope", "code"),
    [
        ("instagram", "facebook", "instagram_content_publish", 10),
        ("instagram", "instagram", "instagram_business_content_publish", 10),
        ("facebook", "facebook", "pages_manage_posts", 200),
    ],
)
async def test_a_permission_can_be_taken_away(client: Client, platform: str, login: str, scope: str, code: int) -> None:
    """Inspecting the token tells, publishing is refused, reading goes on; and it can be given back."""
    owner = await client.owner(platform, login=login)
    edge = "media_publish" if platform == "instagram" else "feed"
    asked = {"input_token": owner.token}

    async def scopes() -> list[str]:
        scopes: list[str] = (await client.get("/debug_token", owner.token, **asked)).body["data"]["scopes"]
        return scopes

    assert scope in await scopes()
    await client.control("PATCH", f"accounts/{owner.id}", {"missing_scopes": [scope]})
    assert scope not in await scopes()
    assert (await client.post(f"/{owner.id}/{edge}", owner.token)).codes == (400, code, None)
    assert (await client.get(f"/{owner.id}", owner.token)).status == 200
    await client.control("PATCH", f"accounts/{owner.id}", {"missing_scopes": []})
    assert scope in await scopes()
    assert (await client.post(f"/{owner.id}/{edge}", owner.token)).codes[1] != code
