"""What a token gives besides publishing: longer-lived tokens, and the Pages of a person.

Sources: Meta's pages on long-lived tokens, and on refreshing Instagram User tokens. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from publisher.sandbox import answers, page_fields
from publisher.sandbox.fields import wanted
from publisher.sandbox.objects import DAY_SECONDS, Platform, Token
from publisher.sandbox.tokens import is_app, state_error
from publisher.sandbox.world import LONG_LIVED_SECONDS, World

_PAGE_FIELDS: Final = ("access_token", "category", "name", "id", "tasks")


def pages_of(token: Token, requested: str | None) -> dict[str, Any]:
    """Return the answer of `GET /me/accounts`: the person's Pages, each with its own token.

    Raises:
        GraphError: 100, the token is no User token, or has no such field.
    """
    if token.kind != "user":
        raise answers.nonexisting_field("accounts")
    names = wanted(requested, page_fields.PAGE_READERS, _PAGE_FIELDS)
    pages = [account for account in token.accounts.values() if account.platform is Platform.FACEBOOK]
    return {"data": [page_fields.page_row(page, names) for page in pages]}


def exchange(world: World, values: Mapping[str, str], now: float) -> dict[str, Any]:
    """Return the answer of `GET /oauth/access_token`: a long-lived User token for a short-lived one.

    Raises:
        GraphError: 100, a parameter is missing; 101, the app is another; 190, the token is bad.
    """
    if values.get("grant_type") != "fb_exchange_token":
        raise answers.invalid_parameter("The parameter grant_type must be fb_exchange_token")
    if not is_app(world.switches, values.get("client_id", ""), values.get("client_secret", "")):
        raise answers.wrong_app()
    token = world.tokens.get(values.get("fb_exchange_token", ""))
    if token is None or token.kind != "user":
        raise answers.invalid_token()
    dead = state_error(token, now)
    if dead is not None:
        raise dead
    return _fresh(world, token, now)


def refresh(world: World, values: Mapping[str, str], token: Token, now: float) -> dict[str, Any]:
    """Return the answer of `GET /refresh_access_token`: an Instagram User token that is a day old gets 60 more.

    Raises:
        GraphError: 100, another grant type, another kind of token, or one that is too young.
    """
    if values.get("grant_type") != "ig_refresh_token":
        raise answers.invalid_parameter("The parameter grant_type must be ig_refresh_token")
    if token.kind != "instagram":
        raise answers.invalid_token()
    if now < token.issued_at + DAY_SECONDS:
        raise answers.token_too_young()
    return _fresh(world, token, now) | {"permissions": "instagram_business_basic,instagram_business_content_publish"}


def _fresh(world: World, token: Token, now: float) -> dict[str, Any]:
    fresh = world.refresh_token(token, now)
    return {"access_token": fresh.value, "token_type": "bearer", "expires_in": LONG_LIVED_SECONDS}
