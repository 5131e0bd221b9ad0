"""Starting and stopping."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import anyio
import pytest
from pydantic import ValidationError

from publisher.sandbox.errors import SandboxError
from publisher.sandbox.server import serve
from publisher.sandbox.settings import SandboxSettings
from tests.sandbox.client import Client

pytestmark = pytest.mark.anyio


async def test_a_taken_port_is_told_in_a_sentence(settings: SandboxSettings) -> None:
    """What was expected, what was found, and what to do."""
    async with serve(settings) as first:
        taken = settings.model_copy(update={"port": first.port})
        with pytest.raises(SandboxError, match=f"Expected 127.0.0.1:{first.port} to be free, found .*: stop"):
            async with serve(taken):
                pass


async def test_a_foreign_address_is_told_in_a_sentence(settings: SandboxSettings) -> None:
    """An address that is not this machine's can't be listened on."""
    with pytest.raises(SandboxError, match=r"Expected an address of this machine, found 192\.0\.2\.1:0"):
        async with serve(settings.model_copy(update={"host": "192.0.2.1"})):
            pass


async def test_stopping_drops_the_calls_that_are_held(settings: SandboxSettings) -> None:
    """A held call and a long poll do not hold the sandbox up."""
    async with aiohttp.ClientSession() as session:
        async with AsyncExitStack() as stack:
            sandbox = await stack.enter_async_context(serve(settings))
            client = Client(sandbox.url, session)
            owner = await client.owner("instagram")
            fault_id = await client.fault("read_account", "pause_before")
            call = asyncio.create_task(client.get(f"/{owner.id}", owner.token))
            await client.control("GET", f"faults/{fault_id}/hit")
            poll = asyncio.create_task(client.send("GET", f"/_sandbox/faults/{fault_id}/hit?hits=2"))
            delay_id = await client.fault("list_stories", "delay", delay_seconds=600)
            delayed = asyncio.create_task(client.get(f"/{owner.id}/stories", owner.token))
            await client.control("GET", f"faults/{delay_id}/hit")
            with anyio.fail_after(25):  # less than any of the three takes by itself
                await stack.aclose()
        ended = await asyncio.gather(call, poll, delayed, return_exceptions=True)
        assert all(isinstance(end, aiohttp.ClientError) for end in ended)


async def test_an_error_in_the_block_comes_out_as_it_is(settings: SandboxSettings) -> None:
    """It is not wrapped in a group."""
    with pytest.raises(LookupError, match="mine"):
        async with serve(settings):
            raise LookupError("mine")


async def test_ids_follow_from_the_seed(settings: SandboxSettings) -> None:
    """Equal seeds give equal ids and tokens, others give others."""
    found = []
    for seed in (7, 7, 8):
        seeded = settings.model_copy(update={"seed": seed})
        async with serve(seeded) as sandbox, aiohttp.ClientSession() as session:
            found.append(await Client(sandbox.url, session).owner("facebook"))
    assert found[0] == found[1] != found[2]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """SANDBOX_ and the field's name; JSON for what is not a word."""
    monkeypatch.setenv("SANDBOX_PORT", "9999")
    monkeypatch.setenv("SANDBOX_REPUBLISH", "duplicate")
    monkeypatch.setenv("SANDBOX_IMAGE_SECONDS", "[1, 3]")
    settings = SandboxSettings()
    assert (settings.port, settings.republish, settings.image_seconds) == (9999, "duplicate", (1, 3))


def test_unknown_settings_are_refused() -> None:
    """A misspelt switch must not pass silently."""
    with pytest.raises(ValidationError, match="republisch"):
        SandboxSettings.model_validate({"republisch": "error"})
