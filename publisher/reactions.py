"""From an error to a decision. Pure.

Graph's HTTP status says next to nothing, and nearly every error is of type OAuthException: only `(code, subcode)`
counts. Texts are localised and never looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import assert_never

from publisher.error_table import NOT_SENT, PERMISSION, SILENCE, TABLE, UNLISTED, Reaction, Row
from publisher.errors import GraphError, NoAnswer, NotSent

__all__ = ["Decision", "Reaction", "classify", "classify_status", "row_for"]

# The Video API's numbers come as code or as subcode.
SHARED_NUMBER_MIN = 1_000_000
_CONTAINER_SUBCODE = re.compile(r"\b(2207\d{3})\b")

_BY_PAIR = {(row.code, row.subcode): row for row in TABLE}
_BY_SUBCODE = {row.subcode: row for row in TABLE if row.subcode is not None and row.subcode >= SHARED_NUMBER_MIN}
_BY_CODE: dict[int | None, Row] = {row.code: row for row in TABLE if row.code is not None and row.subcode is None}


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows an error now, and the row with what follows once nothing is known to be live."""

    reaction: Reaction
    row: Row


def classify(error: GraphError | NoAnswer, *, irreversible: bool) -> Decision:
    """Decide what follows the error of a call.

    An irreversible call is reconciled first, whatever its error, unless the error is definite.
    """
    match error:
        case NotSent():
            row = NOT_SENT
        case NoAnswer():
            row = SILENCE
        case GraphError():
            row = row_for(error.code, error.subcode)
        case _:
            assert_never(error)
    if irreversible and not row.definite:
        return Decision(Reaction.RECONCILE, row)
    return Decision(row.reaction, row)


def classify_status(text: str) -> Row:
    """Return the row of a container in ERROR from its status text, which holds the subcode (Meta: IG Container)."""
    found = _CONTAINER_SUBCODE.search(text)
    return _BY_SUBCODE.get(int(found.group(1)), UNLISTED) if found else UNLISTED


def row_for(code: int | None, subcode: int | None) -> Row:
    """Find the row of an error: by both numbers, by either, by range."""
    row = _BY_PAIR.get((code, subcode))
    if row is None and subcode is not None:
        row = _BY_PAIR.get((None, subcode)) or (_BY_CODE.get(subcode) if subcode >= SHARED_NUMBER_MIN else None)
    if row is None:
        row = _BY_CODE.get(code)
    if row is None and code is not None and 200 <= code <= 299:
        row = PERMISSION
    return row or UNLISTED
