"""Delivers `variant.created`: the border between the outbox and the publisher.

Nothing here calls Meta. An event that can't be read, a variant that is not there, an account whose token is locked:
each gets its outcome before the saga begins, unless an intent is open. Then only looking helps, and no such outcome
may end the event.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import anyio
import structlog
from pydantic import ValidationError

from outbox.event import Event, JsonObject
from outbox.handler import Handler, Runtime
from outbox.ledger import Ledger
from outbox.outcome import Dead, Defer, Hold, Outcome, Published, Reason, Retry, Unknown
from publisher.allowance import Allowance, Allowances
from publisher.errors import SettingsUnsuitable, TokenUnreadable, VariantUnreadable
from publisher.finder import Finder
from publisher.gauges import Gauges
from publisher.graph import GraphClient, open_graph
from publisher.looker import Looker, intended_of
from publisher.media.client import MediaClient, open_media
from publisher.meter import Meter
from publisher.metrics import PublisherMetrics
from publisher.placement import Placement
from publisher.placements import place
from publisher.reconcile import LOOKING_SECONDS_MAX
from publisher.refresher import Refresher
from publisher.refusal import refusal_of, timing_of, token_refusal_of
from publisher.saga import Saga
from publisher.settings import PublisherSettings
from publisher.tokens import KeyRing, open_key_ring
from publisher.trail import PUBLISH, Trail
from publisher.variants import (
    Account,
    Connections,
    Lookup,
    VariantCreated,
    Variants,
    count_misses,
    describe,
    known_elsewhere,
    unnamed_elsewhere,
)

# A wrong key ring is mended by a new setting, without a word to each account: short enough to notice.
KEYS_HOLD_SECONDS = 600.0
NEW_TOKEN_SECONDS = 0.5
JITTER = 0.25
LOOKING_MAX = timedelta(seconds=LOOKING_SECONDS_MAX)

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
    """Open the handler with given settings; while it is open limits are shared, tokens refreshed, gauges kept.

    Args:
        runtime: What the relay lends.
        settings: The publisher's.

    Raises:
        SettingsUnsuitable: A lease would not outlive a call, or the keys for tokens are missing or wrong.
    """
    call_seconds = settings.intent_seconds + settings.publish_seconds
    if call_seconds >= runtime.lease_seconds:
        raise SettingsUnsuitable(
            f"expected a lease that outlives PUBLISHER_INTENT_SECONDS + PUBLISHER_PUBLISH_SECONDS, {call_seconds:g} s, "
            f"found {runtime.lease_seconds:g} s: raise OUTBOX_LEASE_SECONDS, or lower those"
        )
    connections, keys, metrics = runtime.connections, open_key_ring(settings), PublisherMetrics(runtime.registry)
    meter = Meter(connections, settings.slow_seconds, settings.limit_seconds)
    try:
        async with open_graph(settings, metrics, meter) as graph, open_media(settings) as media:
            services = (
                meter,
                Refresher(connections, graph, keys, metrics),
                Gauges(connections, metrics),
                Finder(connections, graph, keys),
            )
            async with _beside(*services):
                variants, allowances = Variants(connections, meter.hear_of_app), Allowances(connections)
                yield VariantHandler(
                    connections, variants, graph, media, keys, settings, metrics, meter=meter, allowances=allowances
                )
    finally:
        metrics.unregister(runtime.registry)


@asynccontextmanager
async def _beside(*services: Meter | Refresher | Gauges | Finder) -> AsyncIterator[None]:
    """Run services for as long as the block lasts; what the block raises is raised as it is, not in a group."""
    raised: Exception | None = None
    async with anyio.create_task_group() as group:
        for service in services:
            await group.start(service.run)
        try:
            yield
        except Exception as error:  # noqa: BLE001 (raised again below)
            raised = error
        group.cancel_scope.cancel()
    if raised is not None:
        raise raised


@dataclass(frozen=True, slots=True)
class VariantHandler:
    """Delivers one event at a call; many calls may run at once."""

    connections: Connections
    variants: Variants
    graph: GraphClient
    media: MediaClient
    keys: KeyRing
    settings: PublisherSettings
    metrics: PublisherMetrics
    meter: Meter
    allowances: Allowances

    async def __call__(self, event: Event, ledger: Ledger) -> Outcome:
        """Take the event's post as far as it goes now."""
        if event.key is not None and ledger.open_intent() is None and ledger.answer(PUBLISH) is None:
            pause = self.meter.admit(event.key, event.id)
            if pause is not None:
                return pause
        outcome = await self._deliver(event, ledger)
        return _with_intent_open(outcome, self.settings) if ledger.open_intent() is not None else outcome

    async def _deliver(self, event: Event, ledger: Ledger) -> Outcome:
        try:
            created = VariantCreated.model_validate(event.payload)
        except ValidationError as error:
            return Dead(_sentence("the payload of variant.created", error), "invalid_payload")
        try:
            lookup = await self.variants.look_up(created)
        except VariantUnreadable as error:
            done = ledger.answer(PUBLISH)
            return Dead(str(error), "media_unsuitable") if done is None else _published(done)
        variant, account = lookup.variant, lookup.account
        done = ledger.answer(PUBLISH)
        if variant is None or account is None:
            return await self._missed(event, created, lookup) if done is None else _published(done)
        log.debug("variant.looked_up", event_id=event.id, variant_id=created.variant_id, read_at=lookup.read_at)
        refusal = refusal_of(event, lookup, variant, account)
        # What was begun is finished or reconciled, whatever became of the variant since; but another account's
        # posts would only make it look absent.
        was_begun = done is not None or ledger.open_intent() is not None
        if refusal is not None and (not was_begun or (done is None and event.key != account.key)):
            return refusal
        if not was_begun and (timing := timing_of(event, lookup, variant)) is not None:
            return timing
        # What the lookup brought of the app may be news from another relay.
        if not was_begun and (hold := self.meter.hold(account.key)) is not None:
            return hold
        try:
            token = self.keys.decrypt(account.token_ciphertext)
        except TokenUnreadable as error:
            if done is not None:
                return _published(done)
            log.error("token.unreadable", event_id=event.id, key=account.key)
            intent = ledger.open_intent()
            if intent is not None and lookup.now() - Trail(ledger).called_at(intent) > LOOKING_MAX:
                return Unknown(f"a person has to look at the account: it may be live, and {account.key}: {error}", None)
            return Hold(KEYS_HOLD_SECONDS, "token", f"{account.key}: {error}")
        refusal = refusal or token_refusal_of(variant, account, token)
        if refusal is not None and not was_begun:
            return refusal
        graph = self.graph.of(account.key)
        placement = place(variant, account, graph, token)
        intended = intended_of(Trail(ledger), variant)
        looked_for = placement if intended is variant else place(intended, account, graph, token)
        allowance = Allowance(self.allowances, account, event.id, graph, token)
        saga = self._saga(event, ledger, lookup, placement, looked_for, allowance=allowance, refusal=refusal)
        outcome = await saga.run()
        if _waits_for_a_token(outcome) and await self._has_new_token(created, account):
            # Meta refused the old one after a person had set it: this hold would wait for another new one for ever.
            return Defer(NEW_TOKEN_SECONDS, Reason.PROCESSING)
        return outcome

    async def _has_new_token(self, created: VariantCreated, used: Account) -> bool:
        """Tell whether the account has another token than the one that was used."""
        now = (await self.variants.look_up(created)).account
        return now is not None and now.key == used.key and now.token_ciphertext != used.token_ciphertext

    def _saga(
        self,
        event: Event,
        ledger: Ledger,
        lookup: Lookup,
        placement: Placement,
        intended: Placement,
        *,
        allowance: Allowance,
        refusal: Dead | None,
    ) -> Saga:
        trail = Trail(ledger)
        looker = Looker(
            intended=intended,
            ledger=ledger,
            trail=trail,
            known_elsewhere=partial(known_elsewhere, self.connections, event.id),
            unnamed_elsewhere=partial(
                unnamed_elsewhere, self.connections, event.id, event.key or "", is_story=intended.name == "story"
            ),
            settings=self.settings,
            metrics=self.metrics,
        )
        return Saga(
            placement=placement,
            refusal=refusal,
            ledger=ledger,
            trail=trail,
            now=lookup.now,
            looker=looker,
            media=self.media,
            allowance=allowance,
            settings=self.settings,
            metrics=self.metrics,
        )

    async def _missed(self, event: Event, created: VariantCreated, lookup: Lookup) -> Outcome:
        """Wait for what is not visible, longer each time; then give up."""
        self.metrics.misses.inc()
        context = describe(event, created, lookup)
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


def _waits_for_a_token(outcome: Outcome) -> bool:
    """Tell whether an outcome is a hold without an end, which a new token ends."""
    return isinstance(outcome, Hold) and outcome.reason in {"token", "account"} and math.isinf(outcome.delay_seconds)


def _published(done: JsonObject) -> Published:
    """It is live, and its permalink can't be asked for."""
    return Published({**done, "permalink": None})


def _with_intent_open(outcome: Outcome, settings: PublisherSettings) -> Outcome:
    """What would end or hold the event can't: something may be live, and the key stays paused until that is known."""
    match outcome:
        case Dead(error=error):
            return Unknown(f"it may be live, and it can't be looked for: {error}", None)
        case Defer(delay_seconds=delay, error=error, context=context):
            longest = settings.reconcile_seconds_max
            return Unknown(f"it may be live, and it can't be looked for yet: {error}", min(delay, longest), context)
        case Hold(delay_seconds=delay, reason=reason, error=error, context=context):
            longest = settings.reconcile_seconds_max
            why = f"it may be live, and it can't be looked for yet: {error}"
            return Unknown(why, min(delay, longest), context, hold_reason=reason)
        case Retry(error=error, context=context):
            return Unknown(f"it may be live: {error}", settings.reconcile_seconds, context)
        case _:
            return outcome


def _sentence(what: str, error: ValidationError) -> str:
    """Put pydantic's findings into one sentence, without the values."""
    findings = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}" for item in error.errors())
    return f"expected {what} to be valid, found {findings}"
