"""What was called: a bounded list for people, and counts for tests."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from publisher.sandbox.parameters import redacted, redacted_text

UNRESOLVED: Final = "unresolved"


@dataclass(slots=True, eq=False)
class Entry:
    """One call; it is written before the call is carried out, and filled in while it is."""

    at: float
    method: str
    path: str
    endpoint: str = UNRESOLVED
    account: str | None = None
    media: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    code: int | None = None
    subcode: int | None = None
    fault: str | None = None
    dropped: bool = False

    def describe(self, tokens: frozenset[str]) -> dict[str, Any]:
        """Return the entry without tokens, proofs and secrets; a status of null is a call still in flight."""
        return {
            "at": self.at,
            "method": self.method,
            "path": redacted_text(self.path, tokens),
            "endpoint": self.endpoint,
            "account": self.account,
            "media": None if self.media is None else redacted_text(self.media, tokens),
            "parameters": redacted(self.parameters, tokens),
            "status": self.status,
            "code": self.code,
            "subcode": self.subcode,
            "fault": self.fault,
            "dropped": self.dropped,
        }


class Journal:
    """The last calls, and how many there were."""

    def __init__(self, entries_kept: int) -> None:
        self.entries: deque[Entry] = deque(maxlen=entries_kept)
        self.counts: Counter[str] = Counter()

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self.counts.clear()
