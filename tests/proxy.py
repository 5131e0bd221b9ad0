"""A TCP proxy on loopback between a client and its server, to have the network fail while both are well."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream, TaskGroup
from psycopg.conninfo import conninfo_to_dict, make_conninfo

HOST: Final = "127.0.0.1"


class Mode(Enum):
    """What the network does.

    PASS        carries everything.
    LATENCY     carries everything `latency_seconds` later, each way.
    BLACK_HOLE  carries nothing, the end of a connection neither; what is under way arrives when the mode changes.
    RESET       has reset the connections that were there, and resets new ones.
    REFUSE      refuses new connections; those that were there go on.
    """

    PASS = auto()
    LATENCY = auto()
    BLACK_HOLE = auto()
    RESET = auto()
    REFUSE = auto()


@dataclass(slots=True, eq=False)
class Proxy:
    """Carries what clients of `port` send to the server, and back; `open_proxy` makes it.

    Attributes:
        server: The server's host and port, or the path of its Unix socket.
        port: Where clients connect, on 127.0.0.1.
        mode: What the network does now; `use` changes it.
        latency_seconds: For `Mode.LATENCY`.
        accepted_count: Connections so far.
    """

    server: tuple[str, int] | str
    port: int = 0
    mode: Mode = Mode.PASS
    latency_seconds: float = 0
    accepted_count: int = 0
    _carries: anyio.Event = field(default_factory=anyio.Event)
    _clients: set[SocketStream] = field(default_factory=set)
    _listener: SocketListener | None = None
    _listens: anyio.Event = field(default_factory=anyio.Event)

    async def use(self, mode: Mode, *, latency_seconds: float = 0) -> None:
        """Change what the network does, from now on and for the connections that are there."""
        self.mode, self.latency_seconds = mode, latency_seconds
        if mode is Mode.BLACK_HOLE:
            self._carries = anyio.Event()
        else:
            self._carries.set()
        if mode is Mode.REFUSE:
            await self.close()
        elif self._listener is None:
            await self._listen()
        if mode is Mode.RESET:
            for client in list(self._clients):
                await _reset(client)

    async def close(self) -> None:
        """Listen no more."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            self._listens = anyio.Event()
            await listener.aclose()

    def dsn(self, dsn: str) -> str:
        """Return a connection string with the proxy in the server's place."""
        return make_conninfo(dsn, host=HOST, hostaddr="", port=self.port)

    async def run(self, connections: TaskGroup) -> None:
        """Accept until cancelled; connections live in the task group."""
        while True:
            await self._listens.wait()
            with suppress(anyio.ClosedResourceError):
                while self._listener is not None:
                    client = await self._listener.accept()
                    self._clients.add(client)
                    connections.start_soon(self._accept, client)

    async def end(self) -> None:
        """Close the connections that are left, of tasks that were cancelled before they began."""
        for client in list(self._clients):
            await client.aclose()

    async def _listen(self) -> None:
        (listener,) = (await anyio.create_tcp_listener(local_host=HOST, local_port=self.port)).listeners
        assert isinstance(listener, SocketListener)
        self.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 (anyio's, not Django's)
        self._listener = listener
        self._listens.set()

    async def _accept(self, client: SocketStream) -> None:
        self.accepted_count += 1
        try:
            if self.mode is Mode.RESET:
                await _reset(client)
                return
            await self._carries.wait()
            async with _closed(await self._connect()) as server, anyio.create_task_group() as both_ways:
                for source, target in ((client, server), (server, client)):
                    both_ways.start_soon(self._carry, source, target, both_ways.cancel_scope)
        except OSError:
            await _reset(client)  # the server is not there
        finally:
            async with _closed(client):
                self._clients.discard(client)

    async def _connect(self) -> ByteStream:
        if isinstance(self.server, str):
            return await anyio.connect_unix(self.server)
        return await anyio.connect_tcp(*self.server)

    async def _carry(self, source: ByteStream, target: ByteStream, both_ways: anyio.CancelScope) -> None:
        """Carry one way until either end closes; then the other end hears of it too."""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                data = await source.receive()
                await anyio.sleep(self.latency_seconds)
                await self._carries.wait()
                await target.send(data)
        await self._carries.wait()
        both_ways.cancel()


@asynccontextmanager
async def open_proxy(dsn: str) -> AsyncIterator[Proxy]:
    """Open a proxy to the PostgreSQL server of a connection string, which lives in this process's event loop."""
    given = conninfo_to_dict(dsn)
    host, port = str(given.get("host") or HOST), int(given.get("port") or 5432)
    proxy = Proxy(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
    await proxy.use(Mode.PASS)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(proxy.run, group)
            try:
                yield proxy
            finally:
                # In this order: awaited in a cancelled scope, it would put a cancellation in place of the failure.
                await proxy.close()
                group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await proxy.end()


@asynccontextmanager
async def _closed(stream: ByteStream) -> AsyncIterator[ByteStream]:
    """Close a stream at the end, also in a cancelled scope, where closing stops half way."""
    try:
        yield stream
    finally:
        with anyio.CancelScope(shield=True):
            await stream.aclose()


async def _reset(client: SocketStream) -> None:
    """Close a connection with RST: what it had not read is lost."""
    linger = struct.pack("ii", 1, 0)
    with suppress(OSError):
        client.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # noqa: S610
    await client.aclose()
