"""Which of Meta's hosts a call is for: all of them are served on one port.

A host is named by the Host header, or by the first segment of the path; a call that names none may be for any.

    graph.facebook.com   graph-video.facebook.com   graph.instagram.com   rupload.facebook.com
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiohttp import web

VERSION: Final = "v25.0"
# The first segments of upload addresses (Meta: IG resumable uploads; Page Stories API).
INSTAGRAM_UPLOAD: Final = "ig-api-upload"
PAGE_UPLOAD: Final = "video-upload"
_UPLOAD_HOST: Final = "rupload.facebook.com"
_VERSIONS: Final = re.compile(r"v[0-9]{1,3}\.[0-9]{1,2}")


class Host(StrEnum):
    """Who is asked."""

    FACEBOOK = "facebook"
    INSTAGRAM = "instagram"
    UPLOAD = "upload"
    ANY = "any"


_HOSTS: Final = {
    "graph.facebook.com": Host.FACEBOOK,
    "graph-video.facebook.com": Host.FACEBOOK,
    "graph.instagram.com": Host.INSTAGRAM,
    _UPLOAD_HOST: Host.UPLOAD,
}


@dataclass(frozen=True, slots=True)
class Site:
    """Where a call came in: `base` is what goes before the version in an address that the answer holds."""

    host: Host
    base: str
    version: str | None
    segments: tuple[str, ...]

    def upload_url(self, kind: str, object_id: str) -> str:
        """Return the address that takes the file of a container or a video."""
        base = self.base
        for name in _HOSTS:
            base = base.replace(name, _UPLOAD_HOST)
        return f"{base}/{kind}/{self.version or VERSION}/{object_id}"

    @property
    def is_upload(self) -> bool:
        """Whether a file is sent."""
        return self.host is Host.UPLOAD or self.segments[:1] in ((INSTAGRAM_UPLOAD,), (PAGE_UPLOAD,))


def locate(request: web.BaseRequest, path: str) -> Site:
    """Read host, version and segments of a call."""
    base = f"{request.scheme}://{request.host}"
    segments = [segment for segment in path.split("/") if segment]
    host = _HOSTS.get(request.host.partition(":")[0].lower(), Host.ANY)
    if segments and segments[0] in _HOSTS:
        base = f"{base}/{segments[0]}"
        host = _HOSTS[segments.pop(0)]
    return _site(host, base, None, segments)


def relocate(site: Site, path: str) -> Site:
    """Return another path on the same host."""
    return _site(site.host, site.base, site.version, [segment for segment in path.split("/") if segment])


def _site(host: Host, base: str, version: str | None, segments: list[str]) -> Site:
    if segments and _VERSIONS.fullmatch(segments[0]):
        version = segments.pop(0)
    return Site(host, base, version, tuple(segments))
