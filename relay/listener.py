"""The listener: a connection of its own on which notifications are heard, for as long as it is certain that they are.

LISTEN can be lost without an error, so the listener notifies itself now and then, and is built anew, with jitter, where
it does not hear that. Where it hears that late it has fallen behind: the relay polls until it hears in time. Behind a
pooler it gives up: another session than ours would listen.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from random import Random
from typing import Final

import anyio
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import database, lease, pooled
from outbox.errors import DatabaseUnsuitable
from relay.metrics import RelayMetrics
from relay.settings import RelaySettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_ECHO: Final = "echo "
"""What a listener notifies itself of, to see whether it hears; other listeners pass it over."""

_BEHIND_SECONDS: Final = 1.0
"""What is heard later than this is four polls late (`OUTBOX_POLL_UNLISTENED_SECONDS`): it is better not waited for."""


@dataclass(slots=True)
class Listener:
    """Hears what is notified on the channel `outbox`.

    Attributes:
        settings: The relay's.
        metrics: Listener.
        on_heard: Called with each payload; anybody may notify, of anything.
        on_changed: Called when it hears, or does so no more.
        listening: It hears, and in time.
        has_pooler: It can't, for a pooler stands between.
    """

    settings: RelaySettings
    metrics: RelayMetrics
    on_heard: Callable[[str], None]
    on_changed: Callable[[], None]
    listening: bool = False
    has_pooler: bool = False
    _has_heard: bool = False

    async def run(self) -> None:
        """Listen until cancelled; behind a pooler, return at once."""
        random = Random()
        failures, lost_at, is_told = 0, time.monotonic(), False
        try:
            while not self.has_pooler:
                with suppress(psycopg.Error, DatabaseUnsuitable):
                    await self._listen_once()
                if self._has_heard:
                    self._has_heard, failures, lost_at, is_told = False, 0, time.monotonic(), False
                if not is_told and time.monotonic() - lost_at > self.settings.lease_seconds:
                    # An outage of the database would have ended the incarnation by now, and said so.
                    log.warning("listener.lost", poll_seconds=self.settings.poll_unlistened_seconds)
                    is_told = True
                self._set_listening(False)
                failures += 1
                await anyio.sleep(random.uniform(0.1, min(10.0, 0.5 * 2 ** min(failures, 5))))
        finally:
            self.listening = False
            self.metrics.listener_connected.set(0)

    async def _listen_once(self) -> None:
        """Connect, and listen for as long as it is certain that we hear. Raises psycopg.Error, DatabaseUnsuitable."""
        dsn = self.settings.listener_dsn.get_secret_value()
        connection = await database.connect(dsn, application_name="outbox-listener")
        try:
            if pooled.leaves_nothing_behind(connection):
                self._do_without()
                return
            await connection.execute("listen outbox")
            while (echo_seconds := await self._echo_seconds(connection)) is not None:
                if echo_seconds > _BEHIND_SECONDS:
                    self._fall_behind()
                    continue  # no pause: it takes long enough
                self._set_listening(True)
                self._has_heard = True
                async for notification in connection.notifies(timeout=self.settings.listen_check_seconds):
                    self._hear(notification.payload)
        finally:
            # Not `async with`: that rolls back first, which nobody may answer, and stays open where it is cancelled.
            await connection.close()
        if self._has_heard:
            self.metrics.listener_deaf.inc()
            log.warning("listener.deaf", next="listens on a new connection, and polls until then")

    def _do_without(self) -> None:
        self.has_pooler = True
        log.warning(
            "listener.unavailable",
            reason="a pooler stands between the listener and PostgreSQL",
            poll_seconds=self.settings.poll_unlistened_seconds,
            what_to_do="poll, or name the server itself in OUTBOX_LISTEN_DSN",
        )

    async def _echo_seconds(self, connection: AsyncConnection[TupleRow]) -> float | None:
        """Notify ourselves, and return how long it takes to be heard; None where it is not, as far as we can tell.

        LISTEN may be lost, and a half-open socket, in silence.
        """
        token = f"{_ECHO}{secrets.token_hex(8)}"
        began_at = time.monotonic()
        # An outage of the whole database ends the incarnation sooner than that, and says so.
        with anyio.move_on_after(self.settings.lease_seconds):
            await lease.notify(connection, token)
            for patience_seconds in (_BEHIND_SECONDS - (time.monotonic() - began_at), None):
                async with aclosing(connection.notifies(timeout=patience_seconds)) as notifications:
                    async for notification in notifications:
                        if notification.payload == token:
                            return time.monotonic() - began_at
                        self._hear(notification.payload)
                self._fall_behind()
        return None

    def _fall_behind(self) -> None:
        if self.listening:
            log.info("listener.behind", next="polls until it hears its own notification in time")
        self._set_listening(False)

    def _hear(self, payload: str) -> None:
        if not payload.startswith(_ECHO):
            self.on_heard(payload)

    def _set_listening(self, listening: bool) -> None:
        changed, self.listening = listening != self.listening, listening
        self.metrics.listener_connected.set(listening)
        if changed:
            self.on_changed()
