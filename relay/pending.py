"""What the settler's next statement writes, and who waits to hear that it is durable."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import anyio

from outbox.batch import Batch, StepRow, arguments_of
from outbox.errors import Unwritable
from outbox.event import Event
from outbox.settle import UNENCODABLE, Verdict
from relay.decide import Rows
from relay.delivery import Delivery


@dataclass(slots=True)
class PendingStep:
    """A step whose handler waits to hear that it is durable."""

    row: StepRow
    verdict: Verdict | None = None
    created_at: datetime | None = None
    unwritable: Unwritable | None = None


@dataclass(slots=True)
class Pending:
    """What the next statement writes, with whom to tell."""

    batch: Batch = field(default_factory=Batch)
    settled: list[tuple[Delivery, Rows]] = field(default_factory=list)
    steps: list[PendingStep] = field(default_factory=list)
    written: anyio.Event | None = None
    arguments: list[Any] | None = None

    def add(self, delivery: Delivery, rows: Rows) -> None:
        """Take what became of a delivery."""
        if rows.receipt is not None:
            self.batch.receipts.append(rows.receipt)
        if rows.wait is not None:
            self.batch.waits.append(rows.wait)
        if rows.tried is not None:
            self.batch.tries.append(rows.tried)
        if rows.hold is not None:
            self.batch.holds.append(rows.hold)
        # What only waits, for a hold or behind its sequence, has shown nothing.
        if delivery.on_record or (delivery.suspect and (rows.receipt is not None or rows.tried is not None)):
            self.batch.acquitted.append(delivery.event.id)
        self.settled.append((delivery, rows))

    def add_suspect(self, event: Event) -> None:
        """Take an event that is about to be dispatched."""
        self.batch.suspects.append(event)

    def add_step(self, step: PendingStep) -> None:
        """Take a step."""
        self.batch.steps.append(step.row)
        self.steps.append(step)

    def seal(self) -> None:
        """Make up the arguments of its statement: nothing is added any more."""
        with suppress(*UNENCODABLE):  # found again, and dealt with, when it is written
            self.arguments = arguments_of(self.batch)

    @property
    def has_sequences(self) -> bool:
        """Whether an event of a sequence is among what is settled."""
        return any(delivery.event.sequence is not None for delivery, _ in self.settled)

    async def wait(self) -> None:
        """Wait until it is written: one event for all that wait."""
        if self.written is None:
            self.written = anyio.Event()
        await self.written.wait()

    def halves(self) -> list[Pending]:
        """Return two that together write the same: none where there is only one event's outcome, or one step."""
        if len(self.settled) + len(self.steps) < 2:
            return []
        first, second = Pending(), Pending()
        first.batch.suspects = self.batch.suspects
        first.batch.acquitted = [*self.batch.acquitted]  # those that are settled come twice
        for number, settled in enumerate(self.settled):
            (first if number < len(self.settled) / 2 else second).add(*settled)
        for number, step in enumerate(self.steps):
            (second if number < len(self.steps) / 2 else first).add_step(step)
        return [first, second]
