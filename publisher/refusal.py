"""What makes a variant unfit to be published, found before any call. Pure."""

from __future__ import annotations

from pydantic import SecretStr

from outbox.event import Event
from outbox.outcome import Dead
from publisher.placements import PLACEMENTS
from publisher.texts import text_problem
from publisher.tokens import is_instagram_login
from publisher.variants import Account, Lookup, Variant


def refusal_of(event: Event, lookup: Lookup, variant: Variant, account: Account) -> Dead | None:
    """Say what makes a variant unfit to be published.

    A draft is dead rather than patient: a person took the approval back, and giving it again emits another event.
    """
    if variant.status != "approved":
        return Dead(
            f"expected variant {variant.id} to be approved, found it {variant.status}; approve it, which emits it anew",
            "not_approved",
        )
    if not lookup.is_for_account:
        return Dead(
            f"expected variant {variant.id} to be for account {account.key}, found that it is not any more; "
            "add the account to it, which emits it anew",
            "not_for_account",
        )
    if variant.placement not in PLACEMENTS.get(account.platform, ()):
        return Dead(
            f"expected a placement of {account.platform} that this release publishes, found {variant.placement}; "
            "create another variant",
            "unsupported",
        )
    if (problem := text_problem(variant, account.platform)) is not None:
        return Dead(problem, "text_unsuitable")
    if event.key != account.key:
        return Dead(
            f"expected the event's key to be {account.key}, its account's, found {event.key}; emit it again with that",
            "wrong_key",
        )
    return None


def token_refusal_of(variant: Variant, account: Account, token: SecretStr) -> Dead | None:
    """Say what an account's login does not let it publish: bytes are taken for Facebook Login alone (sheet 1.1)."""
    if not (is_instagram_login(token) and any(medium.upload for medium in variant.media)):
        return None
    return Dead(
        f"expected media that Meta fetches, found upload for {account.key}, whose token is of Instagram Login: "
        "that takes no bytes; create another variant without upload, or add the account with Facebook Login",
        "unsupported",
    )
