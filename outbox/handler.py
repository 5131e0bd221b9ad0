"""What delivers events of one type.

Any installed project can add a handler as an entry point:

    [project.entry-points."outbox_relay.handlers"]
    "invoice.sent" = "billing.outbox:open_handler"

where the name is the event type and the value a `HandlerFactory`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from outbox.event import Event
from outbox.ledger import Ledger
from outbox.outcome import Outcome

Handler = Callable[[Event, Ledger], Awaitable[Outcome]]
"""Delivers one event and returns what became of it.

An exception that escapes is a Retry while no intent is open, and Unknown where one is. Cancellation means that
the relay shuts down or has lost its lease: let it through.
"""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the relay lends to a handler for as long as it runs.

    Attributes:
        connections: Autocommit connections to the primary, as the relay's role.
        registry: Where the handler's own metrics go.
        lease_seconds: The longest that an irreversible call may take, with the writing of its intent.
    """

    connections: AsyncConnectionPool[AsyncConnection[TupleRow]]
    registry: CollectorRegistry
    lease_seconds: float = math.inf


HandlerFactory = Callable[[Runtime], AbstractAsyncContextManager[Handler]]
"""Opens a handler (HTTP sessions, keys) and closes it when the relay ends. Raises OutboxError with one sentence."""
