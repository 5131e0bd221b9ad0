"""What a token is good for, before it is stored: whose it is, what it may do, and how long it lasts.

| token            | asked                                         | tells                                           |
|------------------|-----------------------------------------------|-------------------------------------------------|
| of Facebook      | `GET /debug_token`                            | validity, expiry, permissions, its accounts     |
|                  | `GET /{account}`                              | that it sees the account                        |
| Instagram Login  | `GET graph.instagram.com/me`                  | whose it is; its expiry only a refresh tells    |

(Sheet 1.1, 2 and 3. `debug_token` knows no Instagram tokens.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from outbox.event import JsonObject
from publisher.errors import AccountInvalid, GraphError, NoAnswer
from publisher.graph import GraphClient
from publisher.placement import Endpoint
from publisher.settings import PublisherSettings
from publisher.tokens import is_instagram_login

SCOPES: Mapping[str, tuple[str, ...]] = {
    "instagram": ("instagram_basic", "instagram_content_publish", "pages_read_engagement"),
    "facebook": ("pages_manage_posts", "pages_read_engagement"),
}
"""What publishing needs (sheet 1.1, 2). `pages_show_list` is for finding the Page, not for publishing there."""

TARGETED: Mapping[str, tuple[str, ...]] = {
    "instagram": ("instagram_content_publish",),
    "facebook": ("pages_manage_posts",),
}
"""Permissions that may be given for single accounts, named in `granular_scopes`."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found of a token that will do; `expires_at` is None where it does not expire, or nobody knows."""

    expires_at: datetime | None


async def inspect_token(
    graph: GraphClient, settings: PublisherSettings, *, platform: str, remote_id: str, token: SecretStr
) -> Inspection:
    """Ask Meta whether a token can publish for an account.

    Raises:
        AccountInvalid: It can't, or Meta can't be asked; says all that is missing.
    """
    try:
        if is_instagram_login(token):
            problems, expires_at = await _of_instagram_login(graph, platform, remote_id, token), None
        else:
            data = await _debug(graph, settings, token)
            problems, expires_at = _problems(data, platform, remote_id), _instant(data.get("expires_at"))
            if not problems:
                await graph.get(Endpoint.ACCOUNT, remote_id, token, {"fields": "id"})
    except GraphError as error:
        raise AccountInvalid(
            f"expected a token for {platform}:{remote_id}, found that Meta refuses it: {error}; "
            "get another one, or add it unseen with --no-check"
        ) from None
    except NoAnswer as error:
        raise AccountInvalid(
            f"expected Meta to say what the token is good for, found: {error}; try again, or add it unseen with "
            "--no-check"
        ) from None
    if problems:
        raise AccountInvalid(
            f"expected a token that can publish for {platform}:{remote_id}, found that {'; that '.join(problems)}"
        )
    return Inspection(expires_at)


async def _debug(graph: GraphClient, settings: PublisherSettings, token: SecretStr) -> JsonObject:
    """Inspect a token with the app's own, where its id and secret are known, else with itself."""
    inspector = token
    if settings.app_id is not None and settings.app_secret is not None:
        inspector = SecretStr(f"{settings.app_id}|{settings.app_secret.get_secret_value()}")
    answer = await graph.get(Endpoint.DEBUG_TOKEN, "debug_token", inspector, {"input_token": token.get_secret_value()})
    data = answer.get("data")
    if not isinstance(data, dict):
        raise NoAnswer("expected data in the answer to debug_token, found none")
    return data


async def _of_instagram_login(graph: GraphClient, platform: str, remote_id: str, token: SecretStr) -> list[str]:
    if platform != "instagram":
        return ["it is one of Instagram Login, which publishes to no Page"]
    answer = await graph.get(Endpoint.ACCOUNT, "me", token, {"fields": "id,user_id"})
    # `id` is another one for each app: an account known by both has two keys, and a publish in flight on each.
    owner = answer.get("user_id")
    if owner is None:
        return ["Meta does not say of which account it is"]
    return [] if remote_id == str(owner) else [f"it is of the account {owner} (its user_id, which is the one to give)"]


def _problems(data: JsonObject, platform: str, remote_id: str) -> list[str]:
    """Return all that keeps an inspected token from publishing for an account."""
    if data.get("is_valid") is not True:
        error = data.get("error")
        number = error.get("subcode", error.get("code")) if isinstance(error, dict) else None
        return [f"it is not valid any more{'' if number is None else f' (error {number})'}"]
    problems = []
    scopes = data.get("scopes")
    missing = [scope for scope in SCOPES[platform] if scope not in (scopes if isinstance(scopes, list) else [])]
    if missing:
        problems.append(f"it lacks the permission {', '.join(missing)}")
    for scope in TARGETED[platform]:
        targets = _targets(data.get("granular_scopes"), scope)
        if targets is not None and remote_id not in targets and scope not in missing:
            problems.append(f"its permission {scope} is for other accounts")
    if platform == "facebook":
        if data.get("type") not in {"PAGE", "SYSTEM_USER"}:
            problems.append("it is no Page token: take the Page's own from /me/accounts")
        elif data.get("type") == "PAGE" and str(data.get("profile_id", remote_id)) != remote_id:
            problems.append(f"it is of the Page {data.get('profile_id')}")
    return problems


def _targets(granular: Any, scope: str) -> list[str] | None:
    """Return for which accounts a permission was given; None is all of them."""
    for row in granular if isinstance(granular, list) else []:
        if isinstance(row, dict) and row.get("scope") == scope and isinstance(row.get("target_ids"), list):
            return [str(each) for each in row["target_ids"]]
    return None


def _instant(seconds: Any) -> datetime | None:
    """Return when a token expires: 0 is never (sheet 3)."""
    if isinstance(seconds, int) and 0 < seconds < 1 << 40:
        return datetime.fromtimestamp(seconds, UTC)
    return None
