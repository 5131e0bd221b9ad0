"""Fetches media as Meta does, and checks it; decoding runs in threads, so the server keeps answering."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
from collections.abc import Coroutine
from typing import IO, Final

import aiohttp
import anyio

from publisher.sandbox.decoders import MediaRule
from publisher.sandbox.objects import MediaProblem, Verdict

USER_AGENT: Final = "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"
_CHUNK_BYTES: Final = 65_536
_MEMORY_BYTES: Final = 1_048_576
_FETCHES_MAX: Final = 16
_VERDICTS_MAX: Final = 10_000
_logger = logging.getLogger(__name__)


class Inspector:
    """Fetches and checks; also for fetches that outlive their call. Close it with the server."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": USER_AGENT},
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=_FETCHES_MAX),
        )
        self._decoding = anyio.CapacityLimiter(2)
        self._background: set[asyncio.Task[None]] = set()
        self._verdicts: dict[tuple[str, bytes], Verdict] = {}

    async def inspect(self, url: str, rule: MediaRule, *, timeout_seconds: float) -> Verdict:
        """Fetch a file and return what was found in it.

        Redirects are not followed and URLs are ASCII: both were seen to fail on Meta's side.
        """
        if not url.isascii() or not url.lower().startswith(("http://", "https://")):
            return Verdict(MediaProblem.UNREACHABLE)
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        try:
            async with self._session.get(url, allow_redirects=False, timeout=timeout) as response:
                if response.status != 200:
                    return Verdict(MediaProblem.UNREACHABLE)
                with temporary_file() as file:
                    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                        file.write(chunk)
                        if file.tell() > rule.size_bytes_max:
                            return Verdict(MediaProblem.TOO_LARGE)
                    return await self.inspect_file(file, rule)
        except TimeoutError:
            return Verdict(MediaProblem.TIMED_OUT)
        except (aiohttp.ClientError, OSError, ValueError):
            return Verdict(MediaProblem.UNREACHABLE)

    async def inspect_file(self, file: IO[bytes], rule: MediaRule) -> Verdict:
        """Return what is found in a file that is here; the same bytes are looked into once for each rule."""
        if file.seek(0, 2) > rule.size_bytes_max:
            return Verdict(MediaProblem.TOO_LARGE)
        digest = await anyio.to_thread.run_sync(_digest, file, limiter=self._decoding)
        verdict = self._verdicts.get((rule.name, digest))
        if verdict is None:
            file.seek(0)
            verdict = await anyio.to_thread.run_sync(rule.decode, file, limiter=self._decoding)
            self._verdicts[rule.name, digest] = verdict
            if len(self._verdicts) > _VERDICTS_MAX:
                del self._verdicts[next(iter(self._verdicts))]
        return verdict

    async def inspect_bytes(self, content: bytes, rule: MediaRule) -> Verdict:
        """Return what is found in a file that was sent whole."""
        with temporary_file() as file:
            file.write(content)
            return await self.inspect_file(file, rule)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Let work go on after its call was answered."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    @property
    def is_busy(self) -> bool:
        """Whether work goes on."""
        return bool(self._background)

    async def aclose(self) -> None:
        """End what still runs."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._session.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.error("media.check_failed", exc_info=task.exception())


def temporary_file() -> IO[bytes]:
    """Return a file that stays in memory while it is small."""
    return tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)


def _digest(file: IO[bytes]) -> bytes:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]  # a spooled file reads into buffers too
