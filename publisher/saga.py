"""The pipeline of one post, the same for every placement: prepare, look, intent, call, done; or reconcile.

A process that finds the steps of another one goes on from them (`trail.py` says which there are). `preparation.py` has
what can be repeated; here is what can't.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

import structlog

from outbox.event import JsonObject
from outbox.ledger import Ledger, Step
from outbox.outcome import Dead, Defer, Hold, Outcome, Published, Reason, Retry, Unknown
from publisher.allowance import Allowance
from publisher.error_table import HOLDING, NOT_SENT, Reaction
from publisher.errors import CircuitOpen, GraphError, NoAnswer, PublisherError, TooLate
from publisher.limits import UNREADABLE, Failure, Outage, growing, outage_outcome_of, outcome_of, read_outcome_of
from publisher.looker import Looker
from publisher.metrics import PublisherMetrics
from publisher.placement import READS, HandleState, Placement, Prepared, ReadBack, digest, text_digest
from publisher.preparation import AlreadyPublished, MediaSource, Preparation
from publisher.reactions import classify
from publisher.reconcile import LOOKING_SECONDS_MAX, Absent, Live, Person, Undecided, candidates
from publisher.settings import PublisherSettings
from publisher.trail import NO_ANSWER, PREPARE, PUBLISH, RECONCILE, Trail

# "These photos were already posted" (sheet 4.5).
ALREADY_POSTED = 1366051
# "Publishing quota used up" (sheet 4.3).
QUOTA_USED_UP = 2207042
JITTER = 0.5

log = structlog.get_logger()


@dataclass(slots=True)
class Saga:
    """Takes one post as far as it goes now.

    Attributes:
        placement: What to publish.
        refusal: Why the variant may not be published now; what was begun is looked for all the same.
        ledger: The event's steps.
        trail: What they say.
        now: The database's clock.
        looker: Looks what became of a call.
        media: Where media are read.
        allowance: What the account may still publish.
        settings: How patient to be.
        metrics: Where verdicts are counted.
    """

    placement: Placement
    refusal: Dead | None
    ledger: Ledger
    trail: Trail
    now: Callable[[], datetime]
    looker: Looker
    media: MediaSource
    allowance: Allowance
    settings: PublisherSettings
    metrics: PublisherMetrics

    async def run(self) -> Outcome:
        """Go on from the steps that are there and return what became of the event."""
        try:
            return await self._advance()
        except CircuitOpen as error:
            # Nothing was sent, and it is nobody's fault: no attempt is used up.
            return Defer(error.wait_seconds, Reason.RATE_LIMITED)
        except (GraphError, NoAnswer) as error:
            # What happens around an irreversible call is caught there: this was a read, or preparing.
            failure = Failure.of(error)
            tried = self.trail.tried(failure)
            if failure.row.tries or failure.is_outage:
                await self.ledger.refused(PREPARE, failure.detail)
            if failure.is_outage:
                return self._wait_out(failure)
            limit_seconds = self.settings.limit_seconds
            if not isinstance(error, GraphError) or error.endpoint not in READS:
                return outcome_of(failure, tried=tried, limit_seconds=limit_seconds)
            waited = self._seconds_since(self.trail.prepared_at())
            return read_outcome_of(
                failure, error.endpoint, tried=tried, waited_seconds=waited, limit_seconds=limit_seconds
            )

    async def _advance(self) -> Outcome:
        done = self.ledger.answer(PUBLISH)
        if done is not None:
            return await self._report(done)
        intent = self.ledger.open_intent()
        if intent is not None:
            outcome = await self._reconcile(intent)
            if outcome is not None:
                return outcome
        if self.refusal is not None:
            return self.refusal
        if intent is None and (doubted := self.trail.doubted()) is not None:
            outcome = await self._reconsider(doubted)
            if outcome is not None:
                return outcome
        prepared = await self._preparation().run()
        match prepared:
            case list():
                return await self._publish(prepared)
            case AlreadyPublished():
                return await self._done(None, "status")
            case _:
                return prepared

    async def _publish(self, prepared: Sequence[Prepared]) -> Outcome:
        """Write the intent, call, write what came of it."""
        placement = self.placement
        if (full := await self.allowance.admit_publish(placement)) is not None:
            return full
        handles = placement.handles(prepared)
        live_before = await placement.live_ids(self.now())
        asked_at = time.monotonic()
        intent = await self.ledger.intent(
            PUBLISH,
            fingerprint=digest(placement.name, handles, placement.text),
            detail={
                "account": self.ledger.event.key,
                "placement": placement.name,
                "handle": handles[0] if handles else None,
                "handles": handles,
                "media_type": placement.post_type.value,
                "text": text_digest(placement.text),
                "live_before": live_before,
            },
            call_seconds=self.settings.intent_seconds + self.settings.publish_seconds,
        )
        try:
            if time.monotonic() - asked_at > self.settings.intent_seconds:
                # This process stood still: the lease that was proven may end before the call, and others may look.
                raise TooLate(f"expected to call within {self.settings.intent_seconds:g} s of the intent, was later")
            remote_id = await placement.publish(prepared)
        except (GraphError, NoAnswer) as error:
            return await self._failed(intent, error)
        return await self._done(remote_id, "answer")

    async def _failed(self, intent: Step, error: GraphError | NoAnswer) -> Outcome:
        """Take a definite refusal at its word; look what became of anything else."""
        failure = Failure.of(error)
        decision = classify(error, irreversible=True)
        log.warning("publish.failed", event_id=self.ledger.event.id, reaction=decision.reaction, error=str(error))
        if decision.reaction is Reaction.RECONCILE or self._contradicts_absence(decision.reaction):
            await self.ledger.done(RECONCILE, {"look": 0, **failure.detail})
            outcome = await self._reconcile(intent)
            return outcome or Retry(failure.message, context=failure.detail)
        tried = self.trail.tried(failure)
        verified = "not_sent" if failure.row is NOT_SENT else "answer"
        await self.ledger.refused(PUBLISH, {"verified": verified, **failure.detail})
        if isinstance(error, TooLate):
            return self._wait(self.trail.unsent_count() - 1)
        return await self._go_on_after(failure, tried)

    async def _reconcile(self, intent: Step) -> Outcome | None:
        """Look what became of an intent; None when the same handle may be published again."""
        asked_after = self._seconds_since(self.trail.called_at(intent))
        try:
            evidence = await self.looker.look(intent, asked_after)
        except (GraphError, NoAnswer) as error:
            self.metrics.reconciled.labels("undecided").inc()
            return self._unreadable(error, asked_after)
        verdict, found = await self.looker.judge(evidence)
        match verdict:
            case Live(remote_id):
                return await self._done(remote_id, "reconciled")
            case Undecided():
                why = "the publishing call has no known answer and nothing is live so far: looking again"
                return Unknown(why, self._look_again_seconds(asked_after), context=found)
            case Person(why):
                return Unknown(f"a person has to look at the account: {why}", None, context=found)
            case Absent():
                return await self._absent(intent)
            case _:
                assert_never(verdict)

    async def _reconsider(self, intent: Step) -> Outcome | None:
        """Look again at a call that passed for absent at an earlier dispatch; None when it still does.

        What it was about may be given up next, because it is old or the variant has changed, or be published again.
        """
        asked_after = self._seconds_since(self.trail.called_at(intent))
        evidence = await self.looker.look(intent, asked_after)
        state = evidence.sight.status.state
        is_proof = state is HandleState.PUBLISHED or (evidence.names_its_handle and bool(candidates(evidence)))
        if self.trail.is_denied() and not is_proof:
            return None
        if state is HandleState.READY and not evidence.sight.forgets:
            # It was looked for in time, and what tells now tells as well as then.
            evidence = replace(evidence, seconds_after_intent=min(asked_after, LOOKING_SECONDS_MAX))
        verdict, found = await self.looker.judge(evidence)
        match verdict:
            case Live(remote_id):
                return await self._done(remote_id, "reconciled")
            case Undecided():
                return Defer(self._look_again_seconds(asked_after), Reason.PROCESSING)
            case Person(why):
                await self._open_again(intent)
                return Unknown(f"a person has to look at the account: {why}", None, context=found)
            case Absent():
                return None
            case _:
                assert_never(verdict)

    async def _open_again(self, intent: Step) -> None:
        """Write an intent for which no call is made: something may be live, and a person can say so."""
        called_at = self.trail.called_at(intent).isoformat()
        await self.ledger.intent(
            PUBLISH,
            fingerprint=intent.fingerprint or "",
            detail={**intent.detail, "called_at": called_at},
            call_seconds=self.settings.intent_seconds + self.settings.publish_seconds,
        )

    async def _absent(self, intent: Step) -> Outcome | None:
        """The call took no effect: what its answer said, if there was one, holds now."""
        answer = self.trail.answer(intent)
        failure = Failure.read(NO_ANSWER if answer is None else answer.detail)
        if failure.row.definite:
            why = "an earlier call vanished, this one was refused as if that had worked, and nothing is to be seen"
            return Unknown(f"a person has to look at the account: {why}: {failure.message}", None, failure.detail)
        if failure.row.code == ALREADY_POSTED and self.trail.passed_for_absent():
            # These photos are in nobody else's hands: a call that passed for absent has posted them.
            return await self._done(None, "already_posted")
        tried = self.trail.tried(failure)
        await self.ledger.refused(PUBLISH, {"verified": "absent", **failure.detail})
        absences = self.trail.absences()
        if absences >= self.settings.absences_max and failure.row.reaction not in HOLDING:
            return Dead(f"{failure.message}; {absences} calls took no effect", "attempts_exhausted")
        if failure.reaction(tried) in {Reaction.RETRY, Reaction.WAIT}:
            return None
        return await self._go_on_after(failure, tried, 0.0 if answer is None else self._age(answer))

    def _unreadable(self, error: GraphError | NoAnswer, asked_after: float) -> Unknown:
        """A look that fails says neither live nor absent; the longer the question stands, the rarer it is asked."""
        failure = Failure.of(error)
        if asked_after > LOOKING_SECONDS_MAX:
            why = "a person has to look at the account: it may have been live and gone, and looking still fails"
            return Unknown(f"{why}: {failure.message}", None, context=failure.detail)
        delay = max(failure.regain_seconds or 0.0, self._look_again_seconds(asked_after))
        is_missing = isinstance(error, GraphError) and failure.is_account_missing(error.endpoint)
        is_about_account = failure.row.code != UNREADABLE or is_missing
        needs_a_person = failure.row.reaction in {Reaction.TOKEN, Reaction.ACCOUNT} and is_about_account
        why = failure.row.reaction.value if needs_a_person else Reason.UNKNOWN.value
        return Unknown(f"it may be live, and looking failed: {failure.message}", delay, failure.detail, why)

    async def _go_on_after(self, failure: Failure, tried: int, elapsed_seconds: float = 0.0) -> Outcome:
        """Follow an error after which nothing is live."""
        if failure.is_outage:
            return self._wait_out(failure)
        match failure.reaction(tried):
            case Reaction.WAIT:
                return self._wait(tried)
            case Reaction.DEFER if failure.row.subcode == QUOTA_USED_UP:
                return await self._wait_for_a_place(failure)
            case Reaction.NEW_CONTAINER:
                return await self._preparation().replace(self.placement.published_parts, failure.message)
            case _:
                return outcome_of(
                    failure,
                    tried=tried,
                    elapsed_seconds=elapsed_seconds,
                    limit_seconds=self.settings.limit_seconds,
                )

    def _wait_out(self, failure: Failure) -> Defer | Retry:
        """Wait until Graph works again; of many that it failed not all are to come back at once."""
        failed, expires_at = self.trail.outages(), self.ledger.event.expires_at
        left = None if expires_at is None else (expires_at - self.now()).total_seconds()
        outage = Outage(len(failed), self._age(failed[0]), left)
        share = secrets.SystemRandom().uniform(1 - JITTER, 1)
        first, longest = self.settings.outage_seconds
        return outage_outcome_of(failure, outage, (first * share, longest * share))

    def _wait(self, waited: int) -> Defer:
        """Leave the call for later, doubling the wait each time."""
        first, longest = self.settings.refused_wait_seconds
        return Defer(min(first * 2.0 ** min(waited, 32), longest), Reason.PROCESSING)

    async def _wait_for_a_place(self, failure: Failure) -> Hold:
        """Nothing of the account goes live before its window has room again; when that is, its quota tells."""
        seconds = await self.allowance.place_seconds() or self.settings.limit_seconds
        wait = max(seconds, failure.regain_seconds or 0.0)
        return Hold(wait, failure.row.hold, failure.message, scope=failure.row.scope, context=failure.detail)

    async def _done(self, remote_id: str | None, verified: str) -> Published:
        step = await self.ledger.done(PUBLISH, {"remote_id": remote_id, "verified": verified})
        log.info("post.published", event_id=self.ledger.event.id, remote_id=remote_id, verified=verified)
        return await self._report(step.detail)

    async def _report(self, done: JsonObject) -> Published:
        """Add what the post says of itself, if it can be had: that has failed while it was live (postiz-app#1562)."""
        found, event_id = ReadBack(), self.ledger.event.id
        if done["remote_id"] is not None:
            try:
                found = await self.placement.read_back(done["remote_id"])
            except PublisherError as error:
                log.info("post.unreadable", event_id=event_id, error=str(error))
        result = {**done, "permalink": found.permalink}
        if found.missing_count:
            self.metrics.incomplete.inc()
            log.error("post.incomplete", event_id=event_id, missing_count=found.missing_count, next="look at the post")
            result["missing_count"] = found.missing_count
        return Published(result)

    def _contradicts_absence(self, reaction: Reaction) -> bool:
        """Once a call on this handle passed for absent, "it can't be published" may mean that it was."""
        is_about_handle = reaction in {Reaction.DEAD, Reaction.WAIT, Reaction.NEW_CONTAINER}
        return is_about_handle and self.trail.passed_for_absent()

    def _age(self, step: Step) -> float:
        assert step.created_at is not None
        return self._seconds_since(step.created_at)

    def _seconds_since(self, instant: datetime) -> float:
        return (self.now() - instant).total_seconds()

    def _look_again_seconds(self, asked_after: float) -> float:
        first, longest = self.settings.reconcile_seconds, self.settings.reconcile_seconds_max
        return growing((first, max(first, longest)), asked_after)

    def _preparation(self) -> Preparation:
        return Preparation(self.placement, self.ledger, self.trail, self.now, self.media, self.allowance, self.settings)
