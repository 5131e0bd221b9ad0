"""What the steps of a post say. Reads the ledger and writes nothing.

    container  done                            prepared: invisible, so only its answer is kept
               refused                         failed, expired, too old: another one is made
    upload     done                            the bytes of the container named in it are all there
    media      done                            the media was checked, where no other step says so
               refused                         its host says no
    prepare    refused                         an error of a call before the intent, where the table bounds how often,
                                               or where Graph failed by itself
    publish    intent -> call -> done          it is live
                              -> refused       verified "answer": a definite refusal
                                               verified "not_sent": no connection, or the intent
                                               was durable too late
                                               verified "absent": looked twice, it is not there
                                               verified "person": somebody looked, it is not there
               intent, after "absent"          a later look has cast doubt on that: a person is asked; no call was made
    reconcile  done                            evidence: the call's unclear answer (look 0), then each look

A step that prepares is called after its part: container, child 1, photo 2, video. The first one made after the media
was checked says what was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from outbox.event import JsonObject
from outbox.ledger import Ledger, Step, StepState
from publisher.error_table import HOLDING, Reaction
from publisher.limits import Failure
from publisher.placement import HandleState
from publisher.reactions import row_for

PUBLISH = "publish"
RECONCILE = "reconcile"
PREPARE = "prepare"
MEDIA = "media"
UPLOAD = "upload"
NO_ANSWER: JsonObject = {"error": "the call had no known answer"}


@dataclass(frozen=True, slots=True)
class Trail:
    """The steps of one post."""

    ledger: Ledger

    def prepared(self, name: str) -> Step | None:
        """Return the step of a part whose handle is in use."""
        step = self.ledger.last(name)
        return step if step is not None and step.state is StepState.DONE else None

    def prepared_at(self) -> datetime:
        """Return when the newest handle was made; before the first one, when the post was due."""
        made = [step for step in self.ledger.steps if step.state is StepState.DONE and "request" in step.detail]
        event = self.ledger.event
        return (made[-1].created_at if made else None) or event.publish_at or event.created_at

    def was_unreadable(self, name: str) -> bool:
        """Tell whether a handle of a part was given up because it could not be read."""
        return any(step.detail.get("unreadable") for step in self._refused(name))

    def failed_handles(self, name: str) -> list[Step]:
        """Return the handles of a part that were given up because they failed, not because they were old."""
        return [step for step in self._refused(name) if step.detail["failed"]]

    def uploaded(self, handle: str) -> Step | None:
        """Return the step that says that the bytes of a handle are all there."""
        steps = self.ledger.steps
        return next((step for step in steps if step.name == UPLOAD and step.detail["handle"] == handle), None)

    def media_facts(self, request: str) -> list[JsonObject] | None:
        """Return what was found of the media of a request, if they were checked."""
        for step in reversed(self.ledger.steps):
            media = step.detail.get(MEDIA)
            if media is not None and media["request"] == request:
                facts: list[JsonObject] = media["facts"]
                return facts
        return None

    def media_refusals(self, request: str) -> int:
        """How often a media host has refused the media of a request."""
        return sum(1 for step in self._refused(MEDIA) if step.detail["of"] == request)

    def absences(self) -> int:
        """How many calls were found to have taken no effect, without an answer that blames the account or the app."""
        absent = [step for step in self._refused(PUBLISH) if step.detail["verified"] == "absent"]
        return sum(1 for step in absent if Failure.read(step.detail).row.reaction not in HOLDING)

    def unsent_count(self) -> int:
        """How many calls were never sent."""
        return sum(1 for step in self._refused(PUBLISH) if step.detail["verified"] == "not_sent")

    def passed_for_absent(self) -> bool:
        """Whether a call on the handle in use was taken to have had no effect, by a look or by a person."""
        refused = [step for step in self._refused(PUBLISH) if step.position > self._prepared_position()]
        return any(step.detail["verified"] in {"absent", "person"} for step in refused)

    def doubted(self) -> Step | None:
        """Return the first intent on the handle in use whose call passed for absent, by looks or by a person's."""
        since, last, first = self._prepared_position(), None, None
        for step in self.ledger.steps:
            if step.name != PUBLISH or step.position < since:
                continue
            if step.state is StepState.INTENT:
                last = step
            elif step.state is StepState.REFUSED and step.detail["verified"] in {"absent", "person"}:
                first = first or last
        return first

    def is_denied(self) -> bool:
        """Whether the newest word on the call is a person's, who says that it took no effect."""
        refused = self._refused(PUBLISH)
        return bool(refused) and refused[-1].detail["verified"] == "person"

    def negative_looks(self, intent: Step) -> int:
        """How many looks since an intent found nothing."""
        return sum(1 for step in self._evidence(intent) if step.detail.get("candidates") == [])

    def gone_since(self, intent: Step) -> float | None:
        """How long after an intent the looks began that have all found the handle gone since; None where none has."""
        since = None
        for look in reversed(self._evidence(intent)):
            if look.detail.get("state") != HandleState.GONE:
                break
            since = look.detail["seconds_after_intent"]
        return since

    def answer(self, intent: Step) -> Step | None:
        """Return the unclear answer to the call of an intent, if one came."""
        return next((step for step in self._evidence(intent) if step.detail["look"] == 0), None)

    def tried(self, failure: Failure) -> int:
        """How often the reaction to an error was followed before: other errors of the event don't count."""
        since = self._prepared_position() if failure.row.reaction is Reaction.WAIT else 0
        details = [s.detail for s in self.ledger.steps if s.state is StepState.REFUSED and s.position > since]
        return sum(1 for d in details if "code" in d and row_for(d["code"], d.get("subcode")) is failure.row)

    def outages(self) -> list[Step]:
        """Return the calls that Graph has failed by itself since anything was made."""
        made = (s.position for s in self.ledger.steps if s.state is StepState.DONE and s.name != RECONCILE)
        since = max(made, default=0)
        return [
            s
            for s in self.ledger.steps
            if s.position > since and s.detail.get("is_outage") and s.state is StepState.REFUSED
        ]

    def called_at(self, intent: Step) -> datetime:
        """Return when the call of an intent was about to be made: of one that was opened again, the first time."""
        assert intent.created_at is not None
        first = intent.detail.get("called_at")
        return intent.created_at if first is None else datetime.fromisoformat(first)

    def _prepared_position(self) -> int:
        """Where the newest handle was made: what came before it says nothing of it."""
        made = (s.position for s in self.ledger.steps if s.state is StepState.DONE and "request" in s.detail)
        return max(made, default=0)

    def _refused(self, name: str) -> list[Step]:
        return [step for step in self.ledger.steps if step.name == name and step.state is StepState.REFUSED]

    def _evidence(self, intent: Step) -> list[Step]:
        return [step for step in self.ledger.steps if step.name == RECONCILE and step.position > intent.position]
