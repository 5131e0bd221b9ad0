"""`outbox check-media`: the rules of a placement, and what a file says of itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image

from relay.cli import BAD_USAGE
from tests.cli.calling import Outbox
from tests.publisher.stage import VIDEO, picture

PLACES = [
    (f"{platform} {placement}", platform, placement, file)
    for platform, placement, file in (
        ("instagram", "story", "fits.jpg"),
        ("instagram", "story", "fits.mp4"),
        ("instagram", "feed", "fits.jpg"),
        ("instagram", "carousel", "fits.mp4"),
        ("instagram", "reel", "fits.mp4"),
        ("facebook", "story", "fits.jpg"),
        ("facebook", "story", "fits.mp4"),
        ("facebook", "photos", "fits.jpg"),
        ("facebook", "video", "fits.mp4"),
        ("facebook", "reel", "fits.mp4"),
    )
]


class Quiet(SimpleHTTPRequestHandler):
    """A file server that keeps no log, and is in trouble at one address."""

    def do_GET(self) -> None:
        """Serve a file."""
        if self.path == "/trouble.jpg":
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def host(unset: Outbox, tmp_path: Path) -> Iterator[str]:
    """A media host on loopback, which the environment allows."""
    unset.set(PUBLISHER_PRIVATE_MEDIA="true")
    (tmp_path / "fits.jpg").write_bytes(picture())
    (tmp_path / "fits.mp4").write_bytes(VIDEO.read_bytes())
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    wide = io.BytesIO()
    Image.new("RGB", (400, 100)).save(wide, "PNG")
    (tmp_path / "wide.png").write_bytes(wide.getvalue())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("platform", "placement", "file"), [place[1:] for place in PLACES])
def test_what_fits_shows_every_rule_and_its_source(
    unset: Outbox, host: str, platform: str, placement: str, file: str
) -> None:
    """Status 0, and no rule is broken."""
    answer = unset("check-media", f"{host}/{file}", "--placement", placement, "--platform", platform, "--json")
    assert (answer.status, answer.err) == (0, "")
    assert {row["verdict"] for row in answer.objects} <= {"kept", "not measured"}
    assert all(row["source"] and row["expected"] for row in answer.objects)
    assert any(row["verdict"] == "kept" for row in answer.objects)


def test_what_does_not_fit_is_named_with_what_was_found(unset: Outbox, host: str) -> None:
    """Status 1; as a table and as JSON."""
    answer = unset("check-media", f"{host}/wide.png", "--placement", "feed")
    assert answer.status == 1
    assert "broken\tformat\tJPEG\tPNG\tIG media" in answer.lines
    assert "broken\taspect_ratio\t0.8 to 1.91\t4.0\tIG media; IG codes 2207009" in answer.lines
    rows = unset("check-media", f"{host}/wide.png", "--placement", "feed", "--json").objects
    assert {row["rule"]: row["found"] for row in rows if row["verdict"] == "broken"} == {
        "format": "PNG",
        "aspect_ratio": 4.0,
    }


def test_a_story_of_a_page_may_be_what_one_of_instagram_may_not(unset: Outbox, host: str) -> None:
    """The rules are the platform's."""
    statuses = [
        unset("check-media", f"{host}/wide.png", "--placement", "story", "--platform", platform).status
        for platform in ("facebook", "instagram")
    ]
    assert statuses == [0, 1]


def test_a_file_that_is_no_image_breaks_one_rule(unset: Outbox, host: str) -> None:
    """It is the answer, not a failure."""
    answer = unset("check-media", f"{host}/page.jpg", "--placement", "story", "--json")
    assert answer.status == 1
    assert [(row["rule"], row["verdict"]) for row in answer.objects] == [("file", "broken")]


def test_a_private_address_is_refused_as_the_relay_refuses_it(unset: Outbox, host: str) -> None:
    """Nobody reads an inner network by this command."""
    unset.set(PUBLISHER_PRIVATE_MEDIA="false")
    answer = unset("check-media", f"{host.replace('http', 'https')}/fits.jpg", "--placement", "story", "--json")
    assert answer.status == 1
    assert [row["found"] for row in answer.objects] == ["a private one"]


@pytest.mark.parametrize("path", ["missing.jpg", "trouble.jpg"])
def test_a_file_that_can_not_be_read_is_one_sentence(unset: Outbox, host: str, path: str) -> None:
    """Status 1, and the URL is not repeated."""
    answer = unset("check-media", f"{host}/{path}", "--placement", "story")
    assert answer.status == 1
    assert answer.sentence().startswith("expected the media host to answer 200, found ")
    assert host not in answer.err


def test_a_host_that_is_not_there_is_one_sentence(unset: Outbox, host: str) -> None:
    """A port that nobody listens on."""
    answer = unset("check-media", "http://127.0.0.1:1/fits.jpg", "--placement", "story")
    assert answer.status == 1
    assert "found no connection" in answer.sentence()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--placement", "post", "--platform", "facebook"], "expected a placement of facebook with media"),
        (["--placement", "hologram"], "expected a placement of instagram with media"),
        (["--placement", "reel", "--kind", "image"], "expected video for a reel of instagram, found image"),
        (["--placement", "story"], "name its --kind"),
        ([], "missing option"),
    ],
)
def test_what_can_not_be_asked_is_bad_usage(unset: Outbox, arguments: list[str], expected: str) -> None:
    """Status 2, and nothing is fetched."""
    answer = unset("check-media", "http://127.0.0.1:1/file", *arguments)
    assert answer.status == BAD_USAGE
    assert expected in answer.sentence()
