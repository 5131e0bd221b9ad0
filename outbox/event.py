"""An event: what an application decided, as it stands in the log.

Ids are `NewType`s, so that an event id is not taken for a relay's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, NewType, TypeAlias

EventId = NewType("EventId", int)
RelayId = NewType("RelayId", int)
Lane = NewType("Lane", int)

JsonObject: TypeAlias = dict[str, Any]

LANE_COUNT = 64
"""Fixed for ever: lanes are written into every event."""


class Event(NamedTuple):
    """One event of the log: a row, as it is read.

    Attributes:
        id: Its identity. Ids do not commit in order.
        lane: 0 to 63; a lane belongs to one relay at a time.
        key: The publishing account; at most one event of a key is in flight. None routes anywhere.
        sequence: Events of the same key and sequence are handled strictly in order. None orders nothing.
        type: Names the handler.
        payload: What the handler needs, a JSON object.
        headers: About the event: trace context, the emitting application.
        publish_at: Not dispatched before; None means at once.
        expires_at: Ends as expired when nothing irreversible was begun by then; None means never.
        replay_of: The event that this one replays.
        created_at: When it was emitted, by the database's clock.
    """

    id: EventId
    lane: Lane
    key: str | None
    sequence: str | None
    type: str
    payload: JsonObject
    headers: JsonObject
    publish_at: datetime | None
    expires_at: datetime | None
    replay_of: EventId | None
    created_at: datetime

    @property
    def sequence_key(self) -> tuple[str, str] | None:
        """What orders it among others: (key, sequence)."""
        return None if self.sequence is None or self.key is None else (self.key, self.sequence)

    @property
    def owed_since(self) -> datetime:
        """Since when it should have ended: when it was emitted, or its `publish_at` where that is later."""
        return self.created_at if self.publish_at is None else max(self.created_at, self.publish_at)
