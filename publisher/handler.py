"""Delivers `variant.created`: the border between the outbox and the publisher.

Nothing here calls Meta. An event that can't be read, a variant that is not there, an account whose token is locked:
each gets its outcome before the saga begins, unless an intent is open. Then only looking helps, and no such outcome
may end the event.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from pydantic import SecretStr, ValidationError

from outbox.event import Event, JsonObject
from outbox.handler import Handler, Runtime
from outbox.ledger import Ledger, Step
from outbox.outcome import Dead, Defer, Hold, Outcome, Published, Reason, Retry, Unknown
from publisher.errors import GraphError, NoAnswer, SettingsUnsuitable, TokenUnreadable
from publisher.facebook import PhotoStory, VideoStory
from publisher.graph import GraphClient, open_graph
from publisher.instagram import InstagramStory
from publisher.metrics import PublisherMetrics
from publisher.saga import Saga
from publisher.settings import PublisherSettings
from publisher.story import HandleState, MediaType, Story
from publisher.tokens import KeyRing, open_key_ring
from publisher.trail import PUBLISH, Trail
from publisher.variants import (
    Account,
    Connections,
    Lookup,
    Variant,
    VariantCreated,
    count_misses,
    describe,
    handles_elsewhere,
    known_elsewhere,
    look_up,
)
from publisher.verify import Candidate, Continues, Surroundings, Unreadable, Verdict, verify

# A wrong key ring is mended by a new setting, without a word to each account: short enough to notice.
KEYS_HOLD_SECONDS = 600.0
PLATFORMS = frozenset({"instagram", "facebook"})
JITTER = 0.25

log = structlog.get_logger()


@asynccontextmanager
async def open_handler(runtime: Runtime) -> AsyncIterator[Handler]:
    """Open the handler with the settings of the environment.

    Raises:
        SettingsError: A setting is unknown or does not fit.
        SettingsUnsuitable: The keys for tokens are missing or wrong.
    """
    async with open_handler_with(runtime, PublisherSettings.load()) as handler:
        yield handler


@asynccontextmanager
async def open_handler_with(runtime: Runtime, settings: PublisherSettings) -> AsyncIterator[VariantHandler]:
    """Open the handler with given settings. Raises SettingsUnsuitable."""
    call_seconds = settings.intent_seconds + settings.publish_seconds
    if call_seconds >= runtime.lease_seconds:
        raise SettingsUnsuitable(
            f"expected a lease that outlives PUBLISHER_INTENT_SECONDS + PUBLISHER_PUBLISH_SECONDS, {call_seconds:g} s, "
            f"found {runtime.lease_seconds:g} s: raise OUTBOX_LEASE_SECONDS, or lower those"
        )
    keys = open_key_ring(settings)
    metrics = PublisherMetrics(runtime.registry)
    try:
        async with open_graph(settings, metrics) as graph:
            yield VariantHandler(runtime.connections, graph, keys, settings, metrics)
    finally:
        metrics.unregister(runtime.registry)


@dataclass(frozen=True, slots=True)
class VariantHandler:
    """Delivers one event at a call; many calls may run at once."""

    connections: Connections
    graph: GraphClient
    keys: KeyRing
    settings: PublisherSettings
    metrics: PublisherMetrics

    async def __call__(self, event: Event, ledger: Ledger) -> Outcome:
        """Take the event's story as far as it goes now."""
        outcome = await self._deliver(event, ledger)
        return _with_intent_open(outcome, self.settings) if ledger.open_intent() is not None else outcome

    async def verify(self, event: Event, steps: list[Step], known_until: datetime) -> Verdict:
        """Look whether a story that a restored log would publish is live already; writes nothing, publishes nothing.

        Args:
            event: The event.
            steps: What the log knows of its saga.
            known_until: What the log knows of is whole up to this instant.
        """
        ledger = Ledger(event, _write_nothing, steps)
        try:
            created = VariantCreated.model_validate(event.payload)
        except ValidationError:
            return Continues()
        lookup = await look_up(self.connections, created.variant_id)
        variant, account = lookup.variant, lookup.account
        if variant is None or account is None or _refusal(event, variant, account) is not None:
            return Continues()  # nothing is published of it
        try:
            story = self._story(ledger, variant, account, self.keys.decrypt(account.token_ciphertext))
            live = await story.live(known_until)
            prepared = Trail(ledger, story.handle_name).prepared()
            is_published = (
                prepared is not None and (await story.status(prepared.detail["handle"])).state is HandleState.PUBLISHED
            )
        except (TokenUnreadable, GraphError, NoAnswer) as error:
            return Unreadable(f"{account.key} can't be looked at: {error}")
        intent = ledger.open_intent()
        handles = frozenset(str(step.detail["handle"]) for step in steps if step.detail.get("handle") is not None)
        candidate = Candidate(
            account=account.key,
            media_type=story.media_type,
            due_at=max(event.created_at, event.publish_at or event.created_at),
            handles=handles,
            is_done=is_published or ledger.answer(PUBLISH) is not None,
            intent_at=None if intent is None else intent.created_at,
        )
        around = Surroundings(
            now=lookup.now(),
            known_until=known_until,
            live=live,
            known_ids=await known_elsewhere(self.connections, event.id, [each.id for each in live]),
            known_handles=await handles_elsewhere(
                self.connections, event.id, [each.handle for each in live if each.handle is not None]
            ),
        )
        return verify(candidate, around)

    async def _deliver(self, event: Event, ledger: Ledger) -> Outcome:
        try:
            created = VariantCreated.model_validate(event.payload)
        except ValidationError as error:
            return Dead(_sentence("the payload of variant.created", error), "invalid_payload")
        lookup = await look_up(self.connections, created.variant_id)
        context = describe(event, created, lookup)
        log.debug("variant.looked_up", event_id=event.id, **context)
        variant, account = lookup.variant, lookup.account
        done = ledger.answer(PUBLISH)
        if variant is None or account is None:
            return await self._missed(event, created, context) if done is None else _published(done)
        refusal = _refusal(event, variant, account)
        # What was begun is finished or reconciled, whatever became of the variant since; but another account's
        # stories would only make it look absent.
        was_begun = done is not None or ledger.open_intent() is not None
        if refusal is not None and (not was_begun or (done is None and event.key != account.key)):
            return refusal
        try:
            token = self.keys.decrypt(account.token_ciphertext)
        except TokenUnreadable as error:
            if done is not None:
                return _published(done)
            log.error("token.unreadable", event_id=event.id, key=account.key)
            return Hold(KEYS_HOLD_SECONDS, "token", f"{account.key}: {error}")
        return await self._saga(event, ledger, lookup, self._story(ledger, variant, account, token)).run()

    def _saga(self, event: Event, ledger: Ledger, lookup: Lookup, story: Story) -> Saga:
        return Saga(
            story=story,
            ledger=ledger,
            trail=Trail(ledger, story.handle_name),
            now=lookup.now,
            known_elsewhere=partial(known_elsewhere, self.connections, event.id),
            settings=self.settings,
            metrics=self.metrics,
        )

    def _story(self, ledger: Ledger, variant: Variant, account: Account, token: SecretStr) -> Story:
        intent = ledger.open_intent()
        media_type = MediaType(variant.media_type if intent is None else intent.detail["media_type"])
        match account.platform, media_type:
            case "instagram", _:
                return InstagramStory(self.graph, account.remote_id, token, media_type, variant.media_url)
            case _, MediaType.IMAGE:
                return PhotoStory(self.graph, account.remote_id, token, variant.media_url)
            case _:
                return VideoStory(self.graph, account.remote_id, token, variant.media_url)

    async def _missed(self, event: Event, created: VariantCreated, context: JsonObject) -> Outcome:
        """Wait for what is not visible, longer each time; then give up."""
        self.metrics.misses.inc()
        what = context["missing"]
        log.warning("variant.missed", event_id=event.id, **context)
        misses = await count_misses(self.connections, event.id)
        found = "row security may hide it" if context[f"{what}s_row_security"] else "row security does not hide it"
        if context["is_in_recovery"]:
            found = "the server is a replica"
        error = f"expected the {what} of {created.variant_id} by primary key, found no row at try {misses + 1}: {found}"
        if misses >= self.settings.max_variant_retries:
            return Dead(error, f"{what}_missing", context)
        delay = self.settings.variant_retry_delay_seconds * 2**misses
        jitter = secrets.SystemRandom().uniform(1, 1 + JITTER)
        return Defer(delay * jitter, Reason.MISSING, error, context)


async def _write_nothing(event: Event, _step: Step, _call_seconds: float | None) -> datetime:
    raise AssertionError(f"verifying event {event.id} wrote a step")


def _published(done: JsonObject) -> Published:
    """It is live, and its permalink can't be asked for."""
    return Published({**done, "permalink": None})


def _refusal(event: Event, variant: Variant, account: Account) -> Dead | None:
    """Say what makes a variant unfit to be published.

    A draft is dead rather than patient: a person took the approval back, and replaying the event gives it again.
    """
    if variant.status != "approved":
        return Dead(
            f"expected variant {variant.id} to be approved, found it {variant.status}; approve it and replay the event",
            "not_approved",
        )
    if account.platform not in PLATFORMS or variant.placement != "story" or variant.media_type not in set(MediaType):
        return Dead(
            f"expected an image or video story for instagram or facebook, found {variant.media_type} as "
            f"{variant.placement} for {account.platform}; create another variant",
            "unsupported",
        )
    if event.key != account.key:
        return Dead(
            f"expected the event's key to be {account.key}, its account's, found {event.key}; emit it again with that",
            "wrong_key",
        )
    return None


def _with_intent_open(outcome: Outcome, settings: PublisherSettings) -> Outcome:
    """What would end or hold the event can't: something may be live, and the key stays paused until that is known."""
    match outcome:
        case Dead(error=error):
            return Unknown(f"it may be live, and it can't be looked for: {error}", None)
        case (
            Defer(delay_seconds=delay, error=error, context=context)
            | Hold(delay_seconds=delay, error=error, context=context)
        ):
            longest = settings.reconcile_seconds_max
            return Unknown(f"it may be live, and it can't be looked for yet: {error}", min(delay, longest), context)
        case Retry(error=error, context=context):
            return Unknown(f"it may be live: {error}", settings.reconcile_seconds, context)
        case _:
            return outcome


def _sentence(what: str, error: ValidationError) -> str:
    """Put pydantic's findings into one sentence, without the values."""
    findings = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}" for item in error.errors())
    return f"expected {what} to be valid, found {findings}"
