"""What Meta asks of media, as data: one row for each property, with its source. Pure.

Sources: "IG media" is Meta's IG User Media reference, "IG codes" its error-code page; "Page stories", "Page reels" and
"Page photos" are the reference pages of those, "video codes" the Video API error codes. What Meta scales, crops or
merely recommends is no rule: feed images narrower than 320 pixels, PNG of more than 1 MB, 9:16.

A property that could not be measured breaks no rule: Meta looks at it anyway. Three that Meta documents are never
measured, since MediaInfo does not tell them: that a video has no edit list, that its groups of pictures are closed (of
2 to 5 seconds on Pages), and the bit rate of its sound. Most encoders write an edit list for their own delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from outbox.event import JsonObject
from publisher.placement import MediaType

Facts: TypeAlias = JsonObject
"""What was found of a medium: kind, content_type, size_bytes; of an image format, width, height, aspect_ratio; of a
video also duration_seconds, codec, frames_per_second, bits_per_second, audio_codec, audio_channels,
audio_samples_per_second, scan, chroma, is_index_first."""

MEGABYTE = 1_000_000
MEBIBYTE = 1_048_576
# A container's length is rounded up to whole frames, and 23.976 frames are called 24.
SECONDS_GRACE = 0.5
FRAMES_GRACE = 0.1


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        platform: Whose rule it is.
        placements: Where it holds.
        media_type: Of what.
        fact: The property.
        least: The least value, None without a bound.
        most: The greatest value, None without a bound.
        one_of: The allowed values, where there are no bounds.
        source: Who says so.
    """

    platform: str
    placements: frozenset[str]
    media_type: MediaType
    fact: str
    source: str
    least: float | None = None
    most: float | None = None
    one_of: tuple[str | bool, ...] = ()

    @property
    def expected(self) -> str:
        """The rule in words."""
        if self.one_of:
            return " or ".join(str(value).lower() if isinstance(value, bool) else value for value in self.one_of)
        if self.least is not None and self.most is not None:
            return f"{self.least:.15g} to {self.most:.15g}"
        return f"at least {self.least:.15g}" if self.least is not None else f"at most {self.most:.15g}"

    def allows(self, value: float | str | bool) -> bool:
        """Tell whether a value keeps the rule."""
        if self.one_of:
            return value in self.one_of
        if isinstance(value, str):
            return False
        grace = {"duration_seconds": SECONDS_GRACE, "frames_per_second": FRAMES_GRACE}.get(self.fact, 0.0)
        return (self.least is None or value >= self.least - grace) and (self.most is None or value <= self.most + grace)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule, and what was found; None where it could not be measured."""

    rule: Rule
    found: float | str | bool | None

    @property
    def is_kept(self) -> bool | None:
        """Whether the rule is kept; None where nobody knows."""
        return None if self.found is None else self.rule.allows(self.found)

    def __str__(self) -> str:
        return f"expected {self.rule.fact} {self.rule.expected}, found {self.found} ({self.rule.source})"


_IMAGE, _VIDEO = MediaType.IMAGE, MediaType.VIDEO
_IG_IMAGES = frozenset({"story", "feed", "carousel"})
_IG_VIDEOS = frozenset({"story", "reel", "carousel"})
_STORY, _FEED, _REEL = frozenset({"story"}), frozenset({"feed"}), frozenset({"reel"})
COVER = "cover"
"""No placement, but held to rules as one: the picture that stands for a reel."""
_COVER = frozenset({COVER})
_PHOTOS = frozenset({"story", "photo", "photos"})
_PAGE_UPLOADS = frozenset({"story", "reel"})
_PAGE_VIDEO = frozenset({"video"})

RULES = (
    # Sheet 1.3. PNG and WebP have been seen to pass as carousel children as far as FINISHED; Meta documents JPEG.
    Rule("instagram", _IG_IMAGES, _IMAGE, "format", "IG media", one_of=("JPEG",)),
    Rule("instagram", _IG_IMAGES, _IMAGE, "size_bytes", "IG media; IG codes 2207004", most=8 * MEBIBYTE),
    Rule("instagram", _FEED, _IMAGE, "aspect_ratio", "IG media; IG codes 2207009", least=0.8, most=1.91),
    Rule("instagram", _COVER, _IMAGE, "format", "IG media (cover_url)", one_of=("JPEG",)),
    Rule("instagram", _COVER, _IMAGE, "size_bytes", "IG media (cover_url)", most=8 * MEBIBYTE),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "format", "IG media", one_of=("MPEG-4", "QuickTime")),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "codec", "IG media", one_of=("AVC", "HEVC")),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "width", "IG media", most=1920),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "frames_per_second", "IG media", least=23, most=60),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "bits_per_second", "IG media", most=25 * MEGABYTE),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "scan", "IG media", one_of=("Progressive",)),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "chroma", "IG media", one_of=("4:2:0",)),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "audio_codec", "IG media", one_of=("AAC",)),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "audio_channels", "IG media", least=1, most=2),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "audio_samples_per_second", "IG media", most=48_000),
    Rule("instagram", _IG_VIDEOS, _VIDEO, "is_index_first", "IG media (moov atom first)", one_of=(True,)),
    Rule("instagram", _STORY, _VIDEO, "size_bytes", "IG media", most=100 * MEGABYTE),
    Rule("instagram", _STORY, _VIDEO, "duration_seconds", "IG media", least=3, most=60),
    Rule("instagram", _STORY, _VIDEO, "aspect_ratio", "IG media", least=0.1, most=10),
    Rule("instagram", _REEL, _VIDEO, "size_bytes", "IG media", most=300 * MEGABYTE),
    Rule("instagram", _REEL, _VIDEO, "duration_seconds", "IG media", least=3, most=900),
    Rule("instagram", _REEL, _VIDEO, "aspect_ratio", "IG media", least=0.01, most=10),
    # Sheet 2.5. Pillow calls a JPEG with a second picture MPO.
    Rule("facebook", _PHOTOS, _IMAGE, "format", "Page photos", one_of=("JPEG", "MPO", "BMP", "PNG", "GIF", "TIFF")),
    Rule("facebook", _PHOTOS, _IMAGE, "size_bytes", "Page photos", most=10 * MEGABYTE),
    Rule("facebook", _PAGE_UPLOADS, _VIDEO, "codec", "Page reels", one_of=("AVC", "HEVC", "VP9", "AV1")),
    Rule("facebook", _PAGE_UPLOADS, _VIDEO, "width", "Page reels", least=540),
    Rule("facebook", _PAGE_UPLOADS, _VIDEO, "height", "Page reels", least=960),
    Rule("facebook", _PAGE_UPLOADS, _VIDEO, "frames_per_second", "Page reels", least=24, most=60),
    Rule("facebook", _PAGE_UPLOADS, _VIDEO, "chroma", "Page reels", one_of=("4:2:0",)),
    # Meta says both 60 and 90 seconds: the shorter one is safe.
    Rule("facebook", _STORY, _VIDEO, "duration_seconds", "Page stories", least=3, most=60),
    Rule("facebook", _REEL, _VIDEO, "duration_seconds", "Page reels", least=3, most=90),
    Rule("facebook", _PAGE_VIDEO, _VIDEO, "size_bytes", "video codes 1363022, 1363023", least=1_024,
        most=2_000 * MEGABYTE),
    Rule("facebook", _PAGE_VIDEO, _VIDEO, "duration_seconds", "video codes 1363025, 1363026", least=1, most=2_400),
)  # fmt: skip


def kinds_of(platform: str, placement: str) -> Sequence[MediaType]:
    """Return which media a placement takes; none for one of text alone."""
    rules = [rule for rule in RULES if rule.platform == platform and placement in rule.placements]
    return [kind for kind in MediaType if any(rule.media_type is kind for rule in rules)]


def findings(facts: Facts, *, platform: str, placement: str, media_type: MediaType) -> Sequence[Finding]:
    """Return all rules of a medium as part of a placement, and what was found."""
    return [
        Finding(rule, facts.get(rule.fact))
        for rule in RULES
        if rule.platform == platform and placement in rule.placements and rule.media_type is media_type
    ]


def violations(facts: Facts, *, platform: str, placement: str, media_type: MediaType) -> Sequence[Finding]:
    """Return the rules that a medium breaks as part of a placement."""
    found = findings(facts, platform=platform, placement=placement, media_type=media_type)
    return [finding for finding in found if finding.is_kept is False]
