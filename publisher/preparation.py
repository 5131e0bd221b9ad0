"""What comes before the irreversible call: media that fit, parts that are made, sent, and ready.

All of it can be repeated: what is left over is invisible and expires.

Each part is durable before the next one is begun, so that whoever comes next makes none of them again; one that has
failed, expired, or belongs to another request is given up and made again alone (sheet 6.3: reuse within 23 hours).
Waiting is done by returning, never by holding a worker or a connection.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, assert_never

import structlog

from outbox.event import JsonObject
from outbox.ledger import Ledger, Step
from outbox.outcome import Dead, Defer, Outcome, Reason, Retry
from publisher.allowance import Allowance
from publisher.error_table import UNLISTED, Reaction
from publisher.errors import GraphError, MediaBusy, MediaUnreachable, MediaUnsuitable, NoAnswer, redacted
from publisher.limits import UNREADABLE_WAIT_SECONDS, Failure, growing
from publisher.placement import File, HandleState, HandleStatus, MediaType, Medium, Part, Placement, Prepared, digest
from publisher.reactions import classify_status
from publisher.settings import PublisherSettings
from publisher.trail import MEDIA, UPLOAD, Trail

# A handler has OUTBOX_HANDLER_SECONDS, 120 by default, and one call may take PUBLISHER_CREATE_SECONDS, 45.
WORK_SECONDS = 60.0
# The largest video, 2 GiB, is all there within 19 hours, before its handle grows old.
BYTES_PER_SECOND_MIN = 32_768
# As often as a media error of Graph's own is tried again (sheet 4.4, 9004/2207052).
UNREACHABLE_TRIES = 3

# "Media not found" and "container not found or expired" (sheet 4.3).
NOT_FOUND = 24

log = structlog.get_logger()


class MediaSource(Protocol):
    """Reads media where Meta would fetch them."""

    async def inspect(self, placement: Placement) -> list[JsonObject]:
        """Return what was found of each medium. Raises MediaBusy, MediaUnreachable, MediaUnsuitable."""

    async def read(self, url: str) -> bytes:
        """Return a photo. Raises MediaBusy, MediaUnreachable, MediaUnsuitable."""

    def stream(self, url: str, offset: int) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]:
        """Open a medium at an offset: its whole size, and the bytes from there on; both raise MediaUnreachable."""


@dataclass(frozen=True, slots=True)
class AlreadyPublished:
    """A call that was taken for absent took effect after all."""


@dataclass(slots=True)
class Preparation:
    """Prepares one post as far as it goes now.

    Attributes:
        placement: What to prepare.
        ledger: The event's steps.
        trail: What they say.
        now: The database's clock.
        media: Where media are read.
        allowance: How many parts the account may still make.
        settings: How patient to be.
    """

    placement: Placement
    ledger: Ledger
    trail: Trail
    now: Callable[[], datetime]
    media: MediaSource
    allowance: Allowance
    settings: PublisherSettings
    _began_at: float = field(default_factory=time.monotonic)
    _found: list[JsonObject] | None = None

    async def run(self) -> list[Prepared] | AlreadyPublished | Outcome:
        """Return all parts when they can be published now, else what becomes of the event."""
        try:
            return await self._advance()
        except MediaUnsuitable as error:
            return Dead(str(error), "media_unsuitable", error.context)
        except MediaBusy as error:
            return Defer(error.wait_seconds, Reason.RATE_LIMITED)
        except MediaUnreachable as error:
            if error.is_refusal:
                request = self._media_digest()
                if self.trail.media_refusals(request) >= UNREACHABLE_TRIES:
                    return Dead(str(error), "media_unreachable", error.context)
                await self.ledger.refused(MEDIA, {"of": request, "error": str(error), **(error.context or {})})
            return Retry(str(error), context=error.context)

    async def _advance(self) -> list[Prepared] | AlreadyPublished | Outcome:
        parts, steps = self.placement.parts, list[Step]()
        for part in parts:
            step = await self._fitting(part, _prepared(steps))
            if step is None:
                if time.monotonic() - self._began_at > WORK_SECONDS:
                    return Defer(self.settings.image_poll_seconds[0], Reason.PROCESSING)
                if part.rests_on_others and (waiting := await self._await_ready(parts, steps)) is not None:
                    return waiting
                if (full := await self.allowance.admit_part()) is not None:
                    return full
                await self._check_media()
                try:
                    step = await self._make(part, _prepared(steps))
                except GraphError as error:
                    if not part.rests_on_others or error.code != NOT_FOUND:
                        raise
                    # A container of children says so of a child that has expired (sheet 4.4, 24/2207008).
                    return await self.replace(parts[: len(steps)], str(error), Failure.of(error).detail)
            if part.upload is not None and self.trail.uploaded(step.detail["handle"]) is None:
                waiting = await self._send(part, part.upload, step)
                if waiting is not None:
                    return waiting
            steps.append(step)
        rests = [index for index, part in enumerate(parts) if part.rests_on_others]
        first = rests[-1] if rests else 0
        waiting = await self._await_ready(parts[first:], steps[first:])
        return _prepared(steps) if waiting is None else waiting

    async def replace(
        self, parts: Sequence[Part], why: str, detail: JsonObject | None = None, *, is_last: bool = False
    ) -> Dead | Retry:
        """Give failed parts up; the next dispatch makes others, a bounded number of times."""
        for part in parts:
            await self._discard(part, why, detail, failed=True)
        failed = max(len(self.trail.failed_handles(part.name)) for part in parts)
        if is_last or failed > self.settings.new_containers_max:
            return Dead(f"{why}; that was {parts[-1].name} number {failed}", "media_failed")
        return Retry(why, context=detail)

    async def _fitting(self, part: Part, before: Sequence[Prepared]) -> Step | None:
        """Return the step of a part that is fit to be published."""
        step = self.trail.prepared(part.name)
        if step is None:
            return None
        if step.detail["request"] != part.fingerprint(before):
            await self._discard(part, "what it was made of has changed")
        elif self._age(step) > self.settings.handle_age_seconds_max:
            await self._discard(part, "it is too old")
        else:
            return step
        return None

    async def _check_media(self) -> None:
        """Look at the media before anything costs quota, once a request."""
        if self.settings.check_media and self.placement.media and self._facts() is None:
            self._found = await self.media.inspect(self.placement)

    async def _make(self, part: Part, before: Sequence[Prepared]) -> Step:
        facts = {} if self._found is None else {MEDIA: {"request": self._media_digest(), "facts": self._found}}
        try:
            made = await part.create(before, await self._file(part))
        except (GraphError, NoAnswer):
            if facts:
                await self.ledger.done(MEDIA, facts)
            raise
        finally:
            self._found = None
        log.debug("media.prepared", event_id=self.ledger.event.id, step=part.name, handle=made.handle)
        request = part.fingerprint(before)
        detail = {"account": self.ledger.event.key, "handle": made.handle, "request": request, **made.more, **facts}
        return await self.ledger.done(part.name, detail)

    async def _send(self, part: Part, medium: Medium, step: Step) -> Outcome | None:
        """Send the bytes of a medium from where the server stands: it is asked, so nothing is sent twice."""
        prepared = _prepared([step])[0]
        status = await part.status(prepared)
        if status.state is HandleState.FAILED:
            return await self._media_failed(part, status)
        offset, began_at = status.received_bytes or 0, time.monotonic()
        try:
            if not status.is_uploaded:
                await self._send_from(part, medium, prepared, offset)
        except (GraphError, NoAnswer, MediaUnreachable) as error:
            failure = None if isinstance(error, MediaUnreachable) else Failure.of(error)
            reaction = None if failure is None else failure.reaction(self.trail.tried(failure))
            if failure is not None and reaction is Reaction.NEW_CONTAINER:
                return await self.replace([part], failure.message, failure.detail)
            now = await part.status(prepared)
            if now.state is HandleState.GONE and reaction is Reaction.RETRY:
                # Nobody knows from where to go on.
                return await self._unreadable(part, step)
            arrived = (now.received_bytes or 0) - offset
            if arrived <= 0:
                raise
            # A part has arrived: that costs no attempt.
            wait = self.settings.video_poll_seconds[0]
            rate = arrived / (time.monotonic() - began_at + wait)
            if rate < BYTES_PER_SECOND_MIN and self._age(step) > self.settings.processing_seconds_max:
                return await self.replace([part], f"its bytes come at {rate:.0f} a second")
            return Defer(wait, Reason.PROCESSING)
        await self.ledger.done(UPLOAD, {"handle": prepared.handle})
        return None

    async def _send_from(self, part: Part, medium: Medium, prepared: Prepared, offset: int) -> None:
        for is_last in (False, True):
            try:
                async with self.media.stream(medium.url, offset) as (size_bytes, body):
                    if offset < size_bytes:
                        await part.send(prepared, body, offset, size_bytes)
            except GraphError as error:
                # The server says where it stands (sheet 4.5, 1363037).
                if is_last or error.resume_at is None:
                    raise
                offset = error.resume_at
            else:
                return

    async def _await_ready(self, parts: Sequence[Part], steps: Sequence[Step]) -> AlreadyPublished | Outcome | None:
        """Return None when all of these can be published now."""
        for part, step in zip(parts, steps, strict=False):
            waiting = await self._await_part(part, step)
            if waiting is not None:
                return waiting
        return None

    async def _await_part(self, part: Part, step: Step) -> AlreadyPublished | Outcome | None:
        status = await part.status(_prepared([step])[0])
        # Meta's part begins when the bytes are there.
        age = self._age(self.trail.uploaded(step.detail["handle"]) or step)
        match status.state:
            case HandleState.READY:
                return None
            case HandleState.PUBLISHED:
                return AlreadyPublished()
            case HandleState.PROCESSING if age > self.settings.processing_seconds_max:
                return await self.replace([part], f"its processing has taken {age:.0f} s")
            case HandleState.GONE if age > self.settings.unreadable_seconds:
                # The call tells more of a container; a Page's video that is not there yet would be refused.
                return await self._unreadable(part, step) if self.placement.names_its_handle else None
            case HandleState.PROCESSING | HandleState.GONE:
                return Defer(growing(self._poll_seconds(part), age), Reason.PROCESSING)
            case HandleState.FAILED:
                return await self._media_failed(part, status)
            case HandleState.EXPIRED:
                # Before it is old, as we count: that is no way to go on for ever.
                return await self.replace([part], "it has expired")
            case _:
                assert_never(status.state)

    async def _unreadable(self, part: Part, step: Step) -> Outcome:
        """Wait for a handle that can't be read, make it once more in case it is really gone, end when it grows old.

        Reads have failed for weeks while publishing worked (postiz-app#1562).
        """
        age, since_uploaded = self._age(step), self._age(self.trail.uploaded(step.detail["handle"]) or step)
        why = f"expected to read how the {part.name} stands, found that it can't be read for {since_uploaded:.0f} s"
        delay = growing((self._poll_seconds(part)[0], UNREADABLE_WAIT_SECONDS[1]), since_uploaded)
        if age + delay > self.settings.handle_age_seconds_max:
            return Dead(why, "media_unreadable")
        if since_uploaded > self.settings.gone_seconds and not self.trail.was_unreadable(part.name):
            await self._discard(part, "it can't be read", {"unreadable": True})
            return Defer(self._poll_seconds(part)[0], Reason.PROCESSING, why)
        return Defer(delay, Reason.PROCESSING, why)

    async def _media_failed(self, part: Part, status: HandleStatus) -> Outcome:
        """Meta could not use the media: another handle where that may help, else the end."""
        row = classify_status(status.text)
        reason = redacted(status.text) or "no reason given" if row is UNLISTED else row.meaning
        why = f"Meta can't use the media: {reason}"
        failure = Failure(row, why, {"error": why, "code": row.code, "subcode": row.subcode})
        failed = self.trail.failed_handles(part.name)
        tried = sum(1 for step in failed if step.detail.get("subcode") == row.subcode)
        is_last = failure.reaction(tried) is Reaction.DEAD
        return await self.replace([part], why, failure.detail, is_last=is_last)

    async def _discard(self, part: Part, why: str, detail: JsonObject | None = None, *, failed: bool = False) -> None:
        handle = (self.ledger.answer(part.name) or {}).get("handle")
        await self.ledger.refused(part.name, {"handle": handle, "why": why, "failed": failed, **(detail or {})})

    async def _file(self, part: Part) -> File | None:
        """Return what `create` needs of a file whose bytes we send: a photo's whole, of a video how large it is."""
        if part.attached is not None:
            content = await self.media.read(part.attached.url)
            return File(len(content), content)
        if part.upload is None:
            return None
        facts = self._found or self._facts()
        size_bytes = None if facts is None else facts[self.placement.media.index(part.upload)].get("size_bytes")
        if size_bytes is not None:
            return File(int(size_bytes))
        async with self.media.stream(part.upload.url, 0) as (size_bytes, _):
            return File(size_bytes)

    def _facts(self) -> list[JsonObject] | None:
        return self.trail.media_facts(self._media_digest())

    def _media_digest(self) -> str:
        media, cover = self.placement.media, self.placement.cover
        covers = [] if cover is None else [cover.url]
        return digest(self.placement.name, [(medium.media_type.value, medium.url) for medium in media], *covers)

    def _age(self, step: Step) -> float:
        assert step.created_at is not None
        return (self.now() - step.created_at).total_seconds()

    def _poll_seconds(self, part: Part) -> tuple[float, float]:
        is_image = part.media_type is MediaType.IMAGE
        return self.settings.image_poll_seconds if is_image else self.settings.video_poll_seconds


def _prepared(steps: Sequence[Step]) -> list[Prepared]:
    return [Prepared(step.detail["handle"], step.detail) for step in steps]
