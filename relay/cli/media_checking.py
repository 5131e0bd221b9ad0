"""`outbox check-media`: whether a file suits a placement, before anybody posts it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.accounts import PlatformOption
from relay.cli.printing import JsonFlag, print_json, print_table

if TYPE_CHECKING:
    from publisher.media.rules import Facts
    from publisher.placement import Medium

REFUSED = 1
"""Exit status where a rule is broken."""


class KindOption(StrEnum):
    """What a file is."""

    IMAGE = "image"
    VIDEO = "video"


def check_media(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the file is, as it would be posted.")],
    placement: Annotated[str, typer.Option(help="Where it is to appear: story, feed, reel, cover, photo, ...")],
    platform: Annotated[PlatformOption, typer.Option(help="Whose rules.")] = PlatformOption.INSTAGRAM,
    kind: Annotated[
        KindOption | None, typer.Option(help="What it is, where neither the placement nor the URL's ending says so.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read a file as the relay does, and show each rule with what was found.

    Nothing is sent to Meta, and only the file's beginning is read. The exit
    status is 0 when the file suits the placement, 1 when it does not, or could
    not be read. PUBLISHER_PRIVATE_MEDIA=true reads http and private addresses.

    Not looked at, since MediaInfo does not tell: edit lists, whether groups of
    pictures are closed and how long they are, and the bit rate of sound. Meta
    documents all of them for videos.
    """
    import anyio  # noqa: PLC0415 (help needs none of it)

    from publisher.errors import MediaUnsuitable  # noqa: PLC0415
    from publisher.media.rules import findings  # noqa: PLC0415

    medium = _medium(url, platform, placement, kind)
    try:
        facts = anyio.run(_measure, medium)
    except MediaUnsuitable as error:
        # It is no file that could be measured: the one rule that it breaks is the answer.
        context = error.context
        _print([("file", context["rule"], context["found"], False, context["source"])], as_json=as_json)
        raise typer.Exit(REFUSED) from None
    found = findings(facts, platform=platform.value, placement=placement, media_type=medium.media_type)
    _print([(f.rule.fact, f.rule.expected, f.found, f.is_kept, f.rule.source) for f in found], as_json=as_json)
    if any(finding.is_kept is False for finding in found):
        raise typer.Exit(REFUSED)


def _medium(url: str, platform: PlatformOption, placement: str, kind: KindOption | None) -> Medium:
    """Return what is to be read; a placement without media, or without this kind of it, is bad usage."""
    from publisher.media.rules import RULES, kinds_of  # noqa: PLC0415 (help needs none of it)
    from publisher.placement import MediaType, Medium  # noqa: PLC0415

    kinds = kinds_of(platform.value, placement)
    if not kinds:
        names = sorted({name for rule in RULES if rule.platform == platform for name in rule.placements})
        raise typer.BadParameter(
            f"expected a placement of {platform.value} with media, one of {', '.join(names)}, found {placement!r}"
        )
    if kind is not None and MediaType(kind) not in kinds:
        raise typer.BadParameter(f"expected {' or '.join(kinds)} for a {placement} of {platform.value}, found {kind}")
    if kind is None and len(kinds) == 1:
        return Medium(kinds[0], url)
    guess = kind or _by_ending(url)
    if guess is None:
        raise typer.BadParameter("expected a URL that ends as an image or a video does, found another; name its --kind")
    return Medium(MediaType(guess), url)


def _by_ending(url: str) -> str | None:
    import mimetypes  # noqa: PLC0415 (help needs none of it)
    from urllib.parse import urlsplit  # noqa: PLC0415

    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    kind = (mimetypes.guess_type(path)[0] or "").partition("/")[0]
    return kind if kind in set(KindOption) else None


async def _measure(medium: Medium) -> Facts:
    from publisher.media.client import open_media  # noqa: PLC0415 (help needs none of it)
    from publisher.settings import PublisherSettings  # noqa: PLC0415

    async with open_media(PublisherSettings.load()) as client:
        return await client.measure(medium)


def _print(rows: list[tuple[str, str, object, bool | None, str]], *, as_json: bool) -> None:
    verdict = {True: "kept", False: "broken", None: "not measured"}
    if as_json:
        for rule, expected, found, is_kept, source in rows:
            print_json(
                {"rule": rule, "expected": expected, "found": found, "verdict": verdict[is_kept], "source": source}
            )
        return
    print_table(
        ("", "rule", "expected", "found", "source"),
        [(verdict[is_kept], rule, expected, found, source) for rule, expected, found, is_kept, source in rows],
    )
