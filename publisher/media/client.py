"""Reads media where Meta would fetch them, before anything costs quota.

What is looked at is bounded in bytes (the beginning of a file) and in time; parsing happens in a few threads. A URL
comes from whoever may create variants, so this client goes nowhere that the public can't: https alone, and no host
whose address is private, loopback, link-local or otherwise not global, whichever name it has and wherever a redirect
leads; names are resolved once and the connection goes to the address that was checked. It sends no token and no cookie,
keeps no answer beyond the facts, and says of an answer no more than its status, type and size. PUBLISHER_PRIVATE_MEDIA
lifts the two for staging.
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit
from weakref import WeakValueDictionary

import aiohttp
import anyio
import anyio.to_thread
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from outbox.event import JsonObject
from publisher.errors import MediaUnreachable, MediaUnsuitable
from publisher.media.facts import IMAGE_HEAD_BYTES, VIDEO_HEAD_BYTES, image_facts, video_facts
from publisher.media.rules import COVER, violations
from publisher.media.turns import Turns
from publisher.placement import MediaType, Medium, Placement
from publisher.settings import PublisherSettings

# A media host may ask for Meta's fetcher by name (Meta: Page Stories API).
USER_AGENT = "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"
REDIRECTS_MAX = 3
AT_ONCE = 16
AT_ONCE_OF_A_HOST = 5
# Each post holds one of the relay's workers, 64 by default.
POSTS_OF_A_HOST = 5
STREAMS_OF_A_HOST = 16
PARSERS = 2
# Above every bound of an image: a file is read so far only to learn its size.
IMAGE_BYTES_MAX = 16 * 1_048_576
_CHUNK_BYTES = 65_536
_MOVED = frozenset({301, 302, 303, 307, 308})
_NOTHING_LEFT = 416
_WHOLE_SIZE = re.compile(r"bytes \*/([0-9]{1,18})")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
# Types that a host gives to what it does not know; all else has to be of the medium's kind.
_SAYS_NOTHING = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/mp4"})


class AddressRefused(OSError):
    """A name leads to no public address."""


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses alone."""

    def __init__(self) -> None:
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a name. Raises AddressRefused where all its addresses are private."""
        found = await self._inner.resolve(host, port, family)
        public = [result for result in found if ip_address(result["host"]).is_global]
        if found and not public:
            raise AddressRefused(f"expected a public address for the media host, found {found[0]['host']}")
        return public

    async def close(self) -> None:
        """Close the resolver."""
        await self._inner.close()


@dataclass(frozen=True, slots=True)
class MediaClient:
    """Reads media. Its methods raise MediaBusy, MediaUnreachable and MediaUnsuitable, and nothing else."""

    session: aiohttp.ClientSession
    settings: PublisherSettings
    fetching: anyio.CapacityLimiter
    parsing: anyio.CapacityLimiter
    hosts: WeakValueDictionary[str, anyio.CapacityLimiter] = field(default_factory=WeakValueDictionary)
    posts: Turns = field(default_factory=partial(Turns, POSTS_OF_A_HOST))
    streams: Turns = field(default_factory=partial(Turns, STREAMS_OF_A_HOST))

    async def inspect(self, placement: Placement) -> list[JsonObject]:
        """Look at all media of a post at once, and return the facts of each.

        Raises:
            MediaUnsuitable: One, or a cover, breaks a rule: the first that does, whatever becomes of the others.
            MediaUnreachable: One could not be read, and none breaks a rule.
            MediaBusy: Other posts keep its host busy.
        """
        wanted = []
        for number, medium in enumerate(placement.media, start=1):
            called = f"{medium.media_type} {number}" if len(placement.media) > 1 else str(medium.media_type)
            wanted.append((medium, called, placement.name))
        if placement.cover is not None:
            wanted.append((placement.cover, COVER, COVER))
        found = [JsonObject()] * len(wanted)
        errors: list[MediaUnreachable | MediaUnsuitable | None] = [None] * len(wanted)

        async def look(index: int) -> None:
            medium, called, ruled_as = wanted[index]
            try:
                found[index] = await self._inspect(medium, placement, called, ruled_as)
            except (MediaUnreachable, MediaUnsuitable) as error:
                errors[index] = error

        hosts = {_host(medium.url) for medium, _, _ in wanted}
        async with self.posts.take(hosts), anyio.create_task_group() as group:
            for index in range(len(wanted)):
                group.start_soon(look, index)
        raised = [error for error in errors if error is not None]
        for error in sorted(raised, key=lambda error: isinstance(error, MediaUnreachable)):
            raise error
        return found[: len(placement.media)]

    async def _inspect(self, medium: Medium, placement: Placement, called: str, ruled_as: str) -> JsonObject:
        facts = await self.measure(medium)
        broken = violations(facts, platform=placement.platform, placement=ruled_as, media_type=medium.media_type)
        if broken:
            rule = broken[0].rule
            context = {"rule": f"{rule.fact} {rule.expected}", "found": broken[0].found, "source": rule.source}
            raise MediaUnsuitable(
                f"the {called} does not suit a {placement.name} of {placement.platform}: "
                + "; ".join(map(str, broken)),
                context | {"facts": facts},
            )
        return facts

    async def measure(self, medium: Medium) -> JsonObject:
        """Fetch the beginning of a medium and return what it says of itself."""
        is_image = medium.media_type is MediaType.IMAGE
        head_bytes = IMAGE_HEAD_BYTES if is_image else VIDEO_HEAD_BYTES
        async with self._place(medium.url), _until(self.settings.media_seconds), self._open(medium.url) as response:
            content_type = response.content_type.lower()
            if content_type not in _SAYS_NOTHING and content_type.partition("/")[0] != medium.media_type:
                raise _unsuitable(f"content type {medium.media_type}/...", content_type, "Meta: IG codes 2207052")
            head = await _read_up_to(response, head_bytes)
            size_bytes = response.content_length
            facts = await self._parse(medium.media_type, head, is_whole=response.content.at_eof())
            if is_image and (facts is None or size_bytes is None):
                head += await _read_up_to(response, IMAGE_BYTES_MAX)
                facts = facts or await self._parse(medium.media_type, head, is_whole=True)
                size_bytes = size_bytes or len(head)
        if facts is None:
            raise _unsuitable("an image" if is_image else "a video", "another file", "Meta: IG codes 2207005, 2207026")
        known = {"kind": medium.media_type.value, "content_type": content_type, "size_bytes": size_bytes, **facts}
        return {name: value for name, value in known.items() if value is not None}

    async def read(self, url: str) -> bytes:
        """Return a whole image, of a size that any image may have."""
        turn, place = self.posts.take({_host(url)}), self._place(url)
        async with turn, place, _until(self.settings.media_seconds), self._open(url) as response:
            content = await _read_up_to(response, IMAGE_BYTES_MAX + 1)
        if len(content) > IMAGE_BYTES_MAX:
            raise _unsuitable(f"at most {IMAGE_BYTES_MAX:,} bytes", "more", "Meta: Page photos")
        return content

    @asynccontextmanager
    async def stream(self, url: str, offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Open a medium at an offset: its whole size, and the bytes from there on; they too raise MediaUnreachable."""
        async with self.streams.take({_host(url)}), self._open(url, offset) as response:
            if response.status == _NOTHING_LEFT:
                yield offset, _chunks(response, 0)
                return
            skip = 0 if response.status == 206 else offset
            before = offset - skip
            if not _is_the_rest(response, offset):
                # What is missing would pass for the end of the file.
                raise MediaUnreachable("expected the rest of the file, found another part of it", is_refusal=True)
            if response.content_length is None:
                raise MediaUnreachable(
                    "expected a media host that says how large the file is, found no Content-Length", is_refusal=True
                )
            yield before + response.content_length, _chunks(response, skip)

    @asynccontextmanager
    async def _place(self, url: str) -> AsyncIterator[None]:
        """Wait for one of a host's places, and then for one of all: a slow host keeps only its own media waiting."""
        host = _host(url)
        places = self.hosts.get(host)
        if places is None:
            places = self.hosts[host] = anyio.CapacityLimiter(AT_ONCE_OF_A_HOST)
        async with places, self.fetching:
            yield

    async def _parse(self, media_type: MediaType, head: bytes, *, is_whole: bool) -> JsonObject | None:
        def parse() -> JsonObject | None:
            return image_facts(head) if media_type is MediaType.IMAGE else video_facts(head, is_whole=is_whole)

        return await anyio.to_thread.run_sync(parse, limiter=self.parsing)

    @asynccontextmanager
    async def _open(self, url: str, offset: int = 0) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        for _ in range(REDIRECTS_MAX + 1):
            self._check(url)
            response = await self._get(url, headers)
            async with response:
                if response.status in _MOVED and "Location" in response.headers:
                    url = _joined(url, response.headers["Location"])
                    continue
                if _is_sent_whole(response, offset):
                    yield response
                    return
                if response.status not in (200, 206):
                    raise MediaUnreachable(
                        f"expected the media host to answer 200, found {response.status}",
                        is_refusal=response.status < 500 and response.status not in (408, 429),
                        context={"http_status": response.status},
                    )
                encoding = response.headers.get("Content-Encoding", "identity")
                if encoding.lower() != "identity":
                    # Sizes and offsets are those of the file: what is packed for the way has others.
                    why = f"expected the file as it is, found it in {encoding}"
                    raise MediaUnreachable(why, is_refusal=True, context={"content_encoding": encoding})
                yield response
                return
        raise MediaUnreachable(f"expected {REDIRECTS_MAX} redirects at most, found more", is_refusal=True)

    async def _get(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        try:
            return await self.session.get(url, headers=headers, allow_redirects=False)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise _unsuitable("a public address", "a private one", "sheet 7") from None
            why = f"expected to reach the media host, found no connection: {error.strerror}"
            raise MediaUnreachable(why, is_refusal=False) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _unreadable(error) from None

    def _check(self, url: str) -> None:
        """Refuse what Meta would not fetch, or what nobody but us could."""
        if not url.isascii():
            raise _unsuitable("a URL in US-ASCII", "other characters", "Meta: IG User Media reference")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise _no_url() from None
        if parts.scheme not in {"http", "https"}:
            raise _unsuitable("an https URL", parts.scheme or "no scheme", "sheet 7")
        if self.settings.private_media:
            return
        if parts.scheme != "https":
            raise _unsuitable("an https URL", parts.scheme, "sheet 7")
        if parts.username is not None or parts.password is not None:
            raise _unsuitable("a URL without a password", "one", "sheet 7")
        try:
            is_public = ip_address(parts.hostname or "").is_global
        except ValueError:
            return
        if not is_public:
            raise _unsuitable("a public address", "a private one", "sheet 7")


@asynccontextmanager
async def open_media(settings: PublisherSettings) -> AsyncIterator[MediaClient]:
    """Open a client for as long as the block lasts."""
    resolver = DefaultResolver() if settings.private_media else PublicResolver()
    connector = aiohttp.TCPConnector(limit=0, resolver=resolver)
    timeout = aiohttp.ClientTimeout(total=None, connect=settings.media_seconds, sock_read=settings.media_seconds)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        auto_decompress=False,
        timeout=timeout,
    ) as session:
        yield MediaClient(session, settings, anyio.CapacityLimiter(AT_ONCE), anyio.CapacityLimiter(PARSERS))


@asynccontextmanager
async def _until(seconds: float) -> AsyncIterator[None]:
    """Give up a medium that takes longer: a host that drips must not keep others waiting."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        why = f"expected the beginning of the file within {seconds:g} s, found it slower"
        raise MediaUnreachable(why, is_refusal=False) from None


def _is_sent_whole(response: aiohttp.ClientResponse, offset: int) -> bool:
    """Tell whether a host says that nothing is left of a file from an offset on (RFC 9110, 15.5.17)."""
    size = _WHOLE_SIZE.fullmatch(response.headers.get("Content-Range", ""))
    return bool(offset) and response.status == _NOTHING_LEFT and size is not None and int(size[1]) == offset


def _is_the_rest(response: aiohttp.ClientResponse, offset: int) -> bool:
    """Tell whether an answer goes from an offset to the end: a host may send less (RFC 9110, 14.2)."""
    sent = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status != 206 or sent is None:
        return True  # all of it, or a host that does not say which part
    first, last, size = sent.groups()
    return int(first) == offset and (size == "*" or int(last) + 1 == int(size))


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""  # refused before it is read


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise _no_url() from None


def _no_url() -> MediaUnsuitable:
    return _unsuitable("a URL", "another text", "RFC 3986")


async def _read_up_to(response: aiohttp.ClientResponse, size_bytes: int) -> bytes:
    head = bytearray()
    try:
        while len(head) < size_bytes and (chunk := await response.content.read(_CHUNK_BYTES)):
            head += chunk
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _unreadable(error) from None
    return bytes(head)


async def _chunks(response: aiohttp.ClientResponse, skip: int) -> AsyncIterator[bytes]:
    """Yield a body but for its first bytes: a host that knows no ranges sends them all again."""
    try:
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            if skip < len(chunk):
                yield chunk[skip:]
            skip = max(skip - len(chunk), 0)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> MediaUnreachable:
    found = "none in time" if isinstance(error, TimeoutError) else type(error).__name__
    return MediaUnreachable(f"expected an answer from the media host, found {found}", is_refusal=False)


def _unsuitable(expected: str, found: str, source: str) -> MediaUnsuitable:
    return MediaUnsuitable(
        f"expected {expected} as media, found {found} ({source}); create another variant",
        {"rule": expected, "found": found, "source": source},
    )
