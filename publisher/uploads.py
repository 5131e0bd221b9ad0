"""How far a video's bytes have arrived, as Meta says it of containers and of a Page's videos (sheet 1.4 and 2.2). Pure.

Both documents spell two things differently, and either spelling has been seen for either.
"""

from __future__ import annotations

from outbox.event import JsonObject

_COMPLETE = frozenset({"complete", "completed"})


def phase_of(status: object, name: str) -> JsonObject:
    """Return a phase (`uploading_phase`, ...) of a video's status, empty where there is none."""
    phase = status.get(name) if isinstance(status, dict) else None
    return phase if isinstance(phase, dict) else {}


def received_bytes(phase: JsonObject) -> int | None:
    """Return how many bytes have arrived; Instagram spells it with two r, the Page's documents with one."""
    value = phase.get("bytes_transferred", phase.get("bytes_transfered"))
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else None


def is_complete(phase: JsonObject) -> bool:
    """Tell whether a phase is over."""
    return phase_status(phase) in _COMPLETE


def phase_status(phase: JsonObject) -> str:
    """Return a phase's status in lower case."""
    return str(phase.get("status")).lower()
