"""Carries calls out: one method for each endpoint, in three groups."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from publisher.sandbox import login, tokens
from publisher.sandbox.calls import Call
from publisher.sandbox.checks import Checks
from publisher.sandbox.clock import Clock
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.instagram_operations import InstagramOperations
from publisher.sandbox.objects import User
from publisher.sandbox.page_operations import PageOperations
from publisher.sandbox.shared_operations import SharedOperations
from publisher.sandbox.uploads import Uploads
from publisher.sandbox.world import World

Answer = dict[str, Any]


class Operations:
    """Knows who answers what."""

    def __init__(self, world: World, clock: Clock, checks: Checks, uploads: Uploads) -> None:
        self._world = world
        self._clock = clock
        self._by_endpoint: dict[Endpoint, Callable[[Call], Awaitable[Answer]]] = {
            **SharedOperations(world, clock).by_endpoint,
            **InstagramOperations(world, clock, checks, uploads).by_endpoint,
            **PageOperations(world, clock, checks, uploads).by_endpoint,
            Endpoint.UPLOAD_CONTAINER: uploads.receive,
            Endpoint.UPLOAD_VIDEO: uploads.receive,
            Endpoint.READ_USER: self._read_user,
            Endpoint.LIST_ACCOUNTS: self._list_accounts,
            Endpoint.DEBUG_TOKEN: self._debug_token,
            Endpoint.EXCHANGE_TOKEN: self._exchange_token,
            Endpoint.REFRESH_TOKEN: self._refresh_token,
        }

    async def carry_out(self, call: Call) -> Answer:
        """Return the answer of a call.

        Raises:
            GraphError: it is refused.
        """
        return await self._by_endpoint[call.endpoint](call)

    async def _read_user(self, call: Call) -> Answer:
        assert isinstance(call.node, User)
        return {"name": call.node.name, "id": call.node.id}

    async def _list_accounts(self, call: Call) -> Answer:
        assert call.token is not None
        return login.pages_of(call.token, call.values.get("fields"))

    async def _debug_token(self, call: Call) -> Answer:
        return tokens.debug(self._world, call.values.get("input_token"), self._clock.now())

    async def _exchange_token(self, call: Call) -> Answer:
        return login.exchange(self._world, call.values, self._clock.now())

    async def _refresh_token(self, call: Call) -> Answer:
        assert call.token is not None
        return login.refresh(self._world, call.values, call.token, self._clock.now())
