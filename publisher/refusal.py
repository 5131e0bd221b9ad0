"""What makes a variant unfit to be published, or not yet, found before any call. Pure."""

from __future__ import annotations

from pydantic import SecretStr

from outbox.event import Event
from outbox.outcome import Dead, Defer, Expired, Reason
from publisher.placements import PLACEMENTS
from publisher.texts import text_problem
from publisher.tokens import is_instagram_login
from publisher.variants import Account, Lookup, Variant

# So often a variant that was put off is looked at: it may be due earlier again.
PUT_OFF_SECONDS_MAX = 3600.0


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


def timing_of(event: Event, lookup: Lookup, variant: Variant) -> Defer | Expired | None:
    """Say that a variant is not to be published now, where it has got other times since its event was emitted.

    An event's own times stand: one that has become due earlier is published when its event is. A replay has no
    deadline: whoever replays what has expired wants it published.
    """
    now = lookup.now()
    has_deadline = event.expires_at is not None or event.replay_of is None
    if has_deadline and variant.expires_at is not None and variant.expires_at <= now:
        return Expired(
            f"the deadline of variant {variant.id}, which came after the event, passed before it was published"
        )
    if variant.publish_at is None or variant.publish_at <= now:
        return None
    why = (
        f"variant {variant.id} is due later than when its event was emitted, at {variant.publish_at:%Y-%m-%dT%H:%M:%SZ}"
    )
    return Defer(min((variant.publish_at - now).total_seconds(), PUT_OFF_SECONDS_MAX), Reason.PROCESSING, why)


def token_refusal_of(variant: Variant, account: Account, token: SecretStr) -> Dead | None:
    """Say what an account's login does not let it publish: bytes are taken for Facebook Login alone (sheet 1.1)."""
    if not (is_instagram_login(token) and any(medium.upload for medium in variant.media)):
        return None
    return Dead(
        f"expected media that Meta fetches, found upload for {account.key}, whose token is of Instagram Login: "
        "that takes no bytes; create another variant without upload, or add the account with Facebook Login",
        "unsupported",
    )
