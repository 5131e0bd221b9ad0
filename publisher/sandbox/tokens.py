"""Tokens and proofs: checked before anything else of a call (Meta: Login security; error bodies as recorded)."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any, Final

from publisher.sandbox import answers
from publisher.sandbox.graph_error import GraphError
from publisher.sandbox.hosts import Host
from publisher.sandbox.objects import Account, Platform, Token, TokenState
from publisher.sandbox.settings import Switches
from publisher.sandbox.world import World

PROOF_SECONDS: Final = 300
_SCOPES: Final = {
    Platform.INSTAGRAM: ("instagram_basic", "instagram_content_publish", "pages_read_engagement"),
    Platform.FACEBOOK: ("pages_manage_posts", "pages_read_engagement", "pages_show_list"),
}
_INSTAGRAM_LOGIN: Final = ("instagram_business_basic", "instagram_business_content_publish")
_TYPES: Final = {"page": "PAGE", "user": "USER", "instagram": "USER"}
_STATES: Final[dict[TokenState, tuple[int, str]]] = {
    "password_changed": (
        460,
        (
            "Error validating access token: The session has been invalidated because the user changed their "
            "password or Facebook has changed the session for security reasons."
        ),
    ),
    "unconfirmed": (
        464,
        (
            "Error validating access token: Sessions for the user are not allowed because the user is not a "
            "confirmed user."
        ),
    ),
    "role_lost": (
        492,
        (
            "The user must be an administrator, editor, or moderator of the page in order to impersonate it. If "
            "the page business requires Two Factor Authentication, the user also needs to enable Two Factor "
            "Authentication."
        ),
    ),
    "expired": (463, "Error validating access token: Session has expired on {then}. The current time is {now}."),
}
# Token errors by their subcode.
STATE_ERRORS: Final = {
    458: "Error validating access token: The user has not authorized application.",
    459: (
        "Error validating access token: You cannot access the app till you log in to www.facebook.com and follow the "
        "instructions given."
    ),
    467: "Error validating access token: This may be because the user logged out or may be due to a system error.",
    **{subcode: message for subcode, message in _STATES.values() if "{" not in message},
    463: "Error validating access token: Session has expired.",
}


def authenticate(
    world: World, value: str | None, parameters: Mapping[str, str], host: Host, now: float
) -> Token | None:
    """Return the token of a call, or None for the app's own.

    Raises:
        GraphError: 190, the token is missing, unknown, dead, or of the other host; 100, its proof is missing or
            wrong.
    """
    if value is not None and is_app_token(world.switches, value):
        return None
    token = world.tokens.get(value or "")
    if token is not None and host is not (Host.INSTAGRAM if token.kind == "instagram" else Host.FACEBOOK):
        token = token if host is Host.ANY else None
    error = answers.invalid_token() if token is None else state_error(token, now)
    if token is None or error is not None:
        assert error is not None
        error.status = world.switches.http_status_190
        raise error
    if token.kind != "instagram":  # those are of an Instagram app, which has a secret of its own
        _check_proof(world.switches, token.value, parameters)
    return token


def is_app_token(switches: Switches, value: str) -> bool:
    """Tell whether this is `{app-id}|{app-secret}`."""
    app_id, _, secret = value.partition("|")
    return is_app(switches, app_id, secret)


def is_app(switches: Switches, app_id: str, secret: str) -> bool:
    """Tell whether these are the app's id and secret."""
    if switches.app_secret is None:
        return False
    expected = f"{switches.app_id}|{switches.app_secret.get_secret_value()}"
    return _same(f"{app_id}|{secret}", expected)


def challenge(error: GraphError) -> str:
    """Return the WWW-Authenticate header of a token error."""
    return f'OAuth "Facebook Platform" "invalid_token" "{error.message}"'


def debug(world: World, input_token: str | None, now: float) -> dict[str, Any]:
    """Return the answer of `GET /debug_token`: of a bad token HTTP 200, with `subcode` for `error_subcode`."""
    if not input_token:
        raise answers.invalid_parameter("The parameter input_token is required")
    token = world.tokens.get(input_token)
    if token is None:
        error = answers.invalid_token()
        return {
            "data": {
                "error": {"code": error.code, "message": error.message},
                "is_valid": False,
                "scopes": [],
            }
        }
    accounts = list(token.accounts.values())
    granted = {
        scope: [it.id for it in accounts if scope in _scopes(token, it)]
        for it in accounts
        for scope in _scopes(token, it)
    }
    data: dict[str, Any] = {
        "app_id": world.switches.app_id,
        "type": _TYPES[token.kind],
        "application": "sandbox",
        "is_valid": token.state_at(now) == "valid",
        "expires_at": 0 if token.expires_at is None else int(token.expires_at),
        "data_access_expires_at": int(token.issued_at) + 90 * 86_400,
        "issued_at": int(token.issued_at),
        "scopes": sorted(granted),
        "granular_scopes": [{"scope": scope, "target_ids": granted[scope]} for scope in sorted(granted)],
        "user_id": token.user_id or (accounts[0].business_id if accounts else None),
    }
    if token.kind == "page" and accounts:
        data["profile_id"] = accounts[0].id
    dead = state_error(token, now)
    if dead is not None:
        data["error"] = {"code": dead.code, "message": dead.message, "subcode": dead.subcode}
    return {"data": data}


def state_error(token: Token, now: float) -> GraphError | None:
    """Return what a token that works no more answers."""
    state = token.state_at(now)
    if state == "valid":
        return None
    subcode, message = _STATES[state]
    is_over = token.expires_at is not None and token.expires_at <= now
    then = token.expires_at if is_over and token.expires_at is not None else token.issued_at
    return GraphError(message.format(then=_spelt(then), now=_spelt(now)), code=190, subcode=subcode)


def _spelt(instant: float) -> str:
    return time.strftime("%A, %d-%b-%y %H:%M:%S UTC", time.gmtime(instant))


def check_scope(token: Token, account: Account, method: str) -> None:
    """Refuse a call whose permission the token lacks: the one for publishing to change anything, the first to read.

    Raises:
        GraphError: 10 of Instagram, 200 of a Page.
    """
    publishing, reading = ("pages_manage_posts", "pages_read_engagement")
    if account.platform is Platform.INSTAGRAM:
        reading, publishing = _INSTAGRAM_LOGIN if token.kind == "instagram" else _SCOPES[account.platform][:2]
    scope = reading if method == "GET" else publishing
    if scope in account.missing_scopes:
        raise answers.scope_missing(scope if account.platform is Platform.FACEBOOK else None)


def _scopes(token: Token, account: Account) -> tuple[str, ...]:
    all_of_them = _INSTAGRAM_LOGIN if token.kind == "instagram" else _SCOPES[account.platform]
    return tuple(scope for scope in all_of_them if scope not in account.missing_scopes)


def _check_proof(switches: Switches, token: str, parameters: Mapping[str, str]) -> None:
    """Check a proof that is there, and miss one that is required.

    Timed proofs go by the wall clock, not the sandbox's: the client's clock can't be moved.
    """
    if switches.app_secret is None:
        return
    proof = parameters.get("appsecret_proof")
    if proof is None:
        if switches.require_proof:
            raise GraphError(
                "API calls from the server require an appsecret_proof argument",
                code=100,
                kind="GraphMethodException",
            )
        return
    message = token
    instant = parameters.get("appsecret_time")
    if instant is not None:
        is_number = instant.isascii() and instant.isdigit() and len(instant) <= 12
        if not is_number or abs(time.time() - int(instant)) > PROOF_SECONDS:
            raise _wrong_proof()
        message = f"{token}|{instant}"
    secret = switches.app_secret.get_secret_value()
    expected = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    if not _same(proof, expected):
        raise _wrong_proof()


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))


def _wrong_proof() -> GraphError:
    return GraphError("Invalid appsecret_proof provided in the API argument", code=100, kind="GraphMethodException")
