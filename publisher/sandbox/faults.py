"""Faults, scripted or drawn at random: which call they hit, how often, and who is held by them.

A fault is claimed when a call matches it, and hit when it has shown: for `apply_then_*` and `pause_after`
that is after the change. A call that is refused on its own account (say 9007, not ready) changes nothing,
so it gives such a fault back to the next call.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

from publisher.sandbox.calls import Call
from publisher.sandbox.chances import Chances
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.fault_spec import FaultSpec
from publisher.sandbox.mishaps import fault_for

# How soon a held call notices that its client has gone.
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Decision:
    """How a held call goes on."""

    drop: bool = False
    apply: bool = True


CLIENT_GONE = Decision(drop=True, apply=False)


@dataclass(slots=True, eq=False)
class _Hold:
    released: asyncio.Event = field(default_factory=asyncio.Event)
    decision: Decision = field(default_factory=Decision)


class Fault:
    """A scripted fault and what it has done so far."""

    def __init__(self, fault_id: str, spec: FaultSpec) -> None:
        self.id = fault_id
        self.spec = spec
        self.hit_count = 0
        self._matched_count = 0
        self._claimed_count = 0
        self._holds: list[_Hold] = []
        self._changed = asyncio.Event()

    def claims(self, call: Call) -> bool:
        """Tell whether this call is one to hit, and count it."""
        spec = self.spec
        if spec.endpoint != call.endpoint or (spec.times is not None and self._claimed_count >= spec.times):
            return False
        if spec.account is not None and (call.account is None or call.account.id != spec.account):
            return False
        if spec.media is not None and not any(spec.media in subject for subject in call.subjects):
            return False
        self._matched_count += 1
        if self._matched_count <= spec.skip:
            return False
        self._claimed_count += 1
        return True

    def give_back(self) -> None:
        """Leave the fault for the next call: this one was refused before it changed anything."""
        self._claimed_count -= 1

    def hit(self) -> None:
        """Count a call that felt the fault, and wake whoever waits for it."""
        self.hit_count += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_hit(self, hit_count: int) -> None:
        """Return when the fault has hit so many calls."""
        while self.hit_count < hit_count:
            await self._changed.wait()

    async def hold(self, is_gone: Callable[[], bool]) -> Decision:
        """Hold a call until it is resumed or its client goes."""
        held = _Hold()
        self._holds.append(held)
        self.hit()
        try:
            while not held.released.is_set() and not is_gone():
                with anyio.move_on_after(_LOOK_SECONDS):
                    await held.released.wait()
            # A client that went just before the resume is noticed one turn of the loop later.
            await anyio.lowlevel.checkpoint()
            return CLIENT_GONE if is_gone() else held.decision
        finally:
            self._holds.remove(held)

    def resume(self, decision: Decision) -> int:
        """Let the calls that are held now go on; return how many there are."""
        resumed = [held for held in self._holds if not held.released.is_set()]
        for held in resumed:
            held.decision = decision
            held.released.set()
        return len(resumed)

    def describe(self) -> dict[str, Any]:
        """Return the fault as the control API shows it."""
        held_count = sum(1 for held in self._holds if not held.released.is_set())
        return {
            "id": self.id,
            **self.spec.model_dump(mode="json", exclude_none=True),
            "times": self.spec.times,
            "hits": self.hit_count,
            "held": held_count,
        }


class Faults:
    """The faults that are scripted, in the order of their scripting: the first that matches is it.

    A call that none hits may meet a random one.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Fault] = {}
        self.mishap_counts: Counter[str] = Counter()
        self._chances: Chances | None = None
        self._numbers: Counter[Endpoint] = Counter()

    def use(self, chances: Chances | None) -> None:
        """Draw random faults by these chances from now on; other chances begin at their first draw."""
        if chances != self._chances:
            self._numbers.clear()
            self.mishap_counts.clear()
        self._chances = chances

    def add(self, fault_id: str, spec: FaultSpec) -> Fault:
        """Script a fault."""
        fault = self.by_id[fault_id] = Fault(fault_id, spec)
        return fault

    def claim(self, call: Call) -> Fault | None:
        """Return the fault that hits a call, if one does."""
        scripted = next((fault for fault in self.by_id.values() if fault.claims(call)), None)
        return scripted or self._draw(call)

    def remove(self, fault: Fault, decision: Decision) -> None:
        """Forget a fault; the calls that it holds go on."""
        del self.by_id[fault.id]
        fault.resume(decision)

    def clear(self, decision: Decision) -> None:
        """Forget every fault, and begin the random ones anew."""
        for fault in list(self.by_id.values()):
            self.remove(fault, decision)
        self._numbers.clear()
        self.mishap_counts.clear()

    def _draw(self, call: Call) -> Fault | None:
        if self._chances is None:
            return None
        self._numbers[call.endpoint] += 1
        mishap, choice = self._chances.draw(call.endpoint, self._numbers[call.endpoint])
        if mishap is None:
            return None
        self.mishap_counts[mishap] += 1
        spec = fault_for(mishap, call.endpoint, choice, self._chances.delay_seconds)
        return Fault(f"random-{mishap}", spec)
