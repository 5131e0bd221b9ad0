"""The page at `/`, its style, and what its buttons do."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from publisher.sandbox.clock import Clock
from publisher.sandbox.faults import Faults
from publisher.sandbox.front import sections
from publisher.sandbox.front.markup import Markup, element, join
from publisher.sandbox.journal import Journal
from publisher.sandbox.world import World

STYLE_PATH: Final = "/_sandbox/style.css"
FORM_PATH: Final = "/_sandbox/page"
FOLLOW_SECONDS: Final = "3"
# Pictures come from wherever the media is; nothing else comes from anywhere but here.
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src http: https:; media-src http: https:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STEPS: Final = ((60, "+1 min"), (3_600, "+1 h"), (86_400, "+24 h"))


class Front:
    """Answers what a browser asks."""

    def __init__(
        self, *, world: World, clock: Clock, faults: Faults, journal: Journal, reset: Callable[[], None]
    ) -> None:
        self._world = world
        self._clock = clock
        self._faults = faults
        self._journal = journal
        self._reset = reset
        self._style = (files("publisher.sandbox.front") / "style.css").read_text()

    def is_asked(self, request: web.BaseRequest) -> bool:
        """Tell whether this is a browser's request and no call of Graph's."""
        if request.path in (STYLE_PATH, FORM_PATH):
            return True
        is_root = request.path == "/" and request.method == "GET" and "access_token" not in request.query
        wants_html = "text/html" in request.headers.get("Accept", "")
        return is_root and wants_html and "Authorization" not in request.headers

    async def respond(self, request: web.BaseRequest) -> web.Response:
        """Return the page, its style, or the way back to it after a button was pressed."""
        match request.path, request.method:
            case "/_sandbox/style.css", "GET":
                return web.Response(text=self._style, content_type="text/css", headers=_HEADERS)
            case "/", _:
                follow = "follow" in request.query
                return web.Response(text=self.render(follow=follow), content_type="text/html", headers=_HEADERS)
            case "/_sandbox/page", "POST" if _is_from_here(request):
                await self._press(request)
                return web.Response(status=303, headers=_HEADERS | {"Location": "/"})
            case _:
                refused = "Expected a button of the sandbox's own page to be pressed, found something else."
                return web.Response(status=403, text=refused, headers=_HEADERS)

    def render(self, *, follow: bool) -> str:
        """Return the whole page."""
        world, now = self._world, self._clock.now()
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", http_equiv="refresh", content=FOLLOW_SECONDS) if follow else None,
            element("title", "Graph API sandbox"),
            element("link", rel="stylesheet", href=STYLE_PATH),
        )
        main = element(
            "main",
            sections.stories(world, now),
            sections.feed(world, now),
            sections.accounts(world, now),
            sections.faults(self._faults),
            sections.containers(world, now),
            sections.requests(world, self._journal),
        )
        return "<!doctype html>\n" + element(
            "html", head, element("body", self._top(now, follow=follow), main), lang="en"
        )

    def _top(self, now: float, *, follow: bool) -> Markup:
        ahead = self._clock.ahead_seconds
        clock = time.strftime("%a %d %b %Y %H:%M:%S UTC", time.gmtime(now))
        told = f" · {ahead / 3_600:.1f} h ahead" if ahead else ""
        steps = [element("button", label, name="advance_seconds", value=str(seconds)) for seconds, label in _STEPS]
        way = element("a", "stop following", href="/") if follow else element("a", "follow", href="/?follow")
        return element(
            "header",
            element("div", element("h1", "Graph API sandbox"), element("p", clock, told, class_="muted")),
            element(
                "form",
                way,
                join(*steps),
                element("button", "Reset", name="reset", value="1", class_="danger"),
                method="post",
                action=FORM_PATH,
            ),
        )

    async def _press(self, request: web.BaseRequest) -> None:
        pressed = dict(parse_qsl((await request.read()).decode("utf-8", "replace")))
        if "reset" in pressed:
            self._reset()
        elif pressed.get("advance_seconds") in {str(seconds) for seconds, _ in _STEPS}:
            self._clock.advance(float(pressed["advance_seconds"]))


def _is_from_here(request: web.BaseRequest) -> bool:
    """Tell whether a form was sent by this page: no other site's page may press our buttons."""
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc == request.host
