"""Looks into media files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final
from xml.etree.ElementTree import ParseError

from PIL import Image
from pymediainfo import MediaInfo

from publisher.sandbox.objects import MediaProblem, Placement, Verdict
from publisher.sandbox.settings import Switches

_PIXELS_MAX: Final = 60_000_000
_CONTAINERS: Final = frozenset({"MPEG-4", "QuickTime"})
_UNSUPPORTED: Final = Verdict(MediaProblem.UNSUPPORTED)


@dataclass(frozen=True, slots=True)
class MediaRule:
    """What a file must be; `decode` runs in a thread and tells what was found."""

    name: str
    size_bytes_max: int
    decode: Callable[[IO[bytes]], Verdict]


def instagram_image(placement: Placement, switches: Switches) -> MediaRule:
    """Return the rule for an image of a container; for a reel it is the cover."""
    if not switches.strict_formats:
        return LAX_FEED_IMAGE if placement is Placement.FEED else LAX_IMAGE
    return FEED_IMAGE if placement is Placement.FEED else STORY_IMAGE


def instagram_video(placement: Placement) -> MediaRule:
    """Return the rule for a video of a container."""
    match placement:
        case Placement.REEL:
            return REEL
        case Placement.ITEM:
            return ITEM_VIDEO
        case _:
            return STORY_VIDEO


def page_video(placement: Placement, switches: Switches) -> MediaRule:
    """Return the rule for a video of a Page."""
    if placement is Placement.FEED:
        return PAGE_FEED_VIDEO
    is_short = placement is Placement.STORY and switches.page_story_seconds_max == 60
    return PAGE_SHORT_VIDEO if is_short else PAGE_VIDEO


def _image_rule(
    name: str, size_bytes_max: int, formats: frozenset[str], ratios: tuple[float, float] | None = None
) -> MediaRule:
    def decode(file: IO[bytes]) -> Verdict:
        try:
            with Image.open(file) as image:
                if image.format not in formats or image.width * image.height > _PIXELS_MAX:
                    return _UNSUPPORTED
                image.load()
                if ratios is not None and not _is_between(image.size, ratios):
                    return Verdict(MediaProblem.ASPECT_RATIO)
                return Verdict(is_jpeg=image.format == "JPEG")
        except (OSError, ValueError, SyntaxError, EOFError, Warning, Image.DecompressionBombError):
            return _UNSUPPORTED

    return MediaRule(name, size_bytes_max, decode)


def _is_between(size: tuple[int, int], ratios: tuple[float, float]) -> bool:
    """Compare a ratio with a pixel of grace: 1080x565 is meant to be 1.91:1."""
    width, height = size
    return ratios[0] * (height - 1) <= width + 1 and width - 1 <= ratios[1] * (height + 1)


@dataclass(frozen=True, slots=True)
class _VideoBounds:
    """Seconds and ratio from and to, the shorter side at least, the width at most, frames a second from and to."""

    codecs: frozenset[str]
    seconds: tuple[float, float]
    ratios: tuple[float, float]
    side_min: int
    width_max: int
    frame_rates: tuple[float, float]
    sampling_rate_max: int
    channels_max: int


def _video_rule(name: str, size_bytes_max: int, bounds: _VideoBounds) -> MediaRule:
    def decode(file: IO[bytes]) -> Verdict:
        try:
            tracks = MediaInfo.parse(file)
        except (OSError, RuntimeError, ValueError, ParseError):
            return _UNSUPPORTED
        if not tracks.general_tracks or not tracks.video_tracks:
            return _UNSUPPORTED
        general, video = tracks.general_tracks[0], tracks.video_tracks[0]
        duration = float(general.duration or video.duration or 0) / 1_000
        problem = _general_problem(general, duration, bounds) or _picture_problem(video, bounds)
        if problem is None and any(_is_sound_bad(sound, bounds) for sound in tracks.audio_tracks):
            problem = MediaProblem.UNSUPPORTED
        return Verdict(problem, duration) if problem is None else Verdict(problem)

    return MediaRule(name, size_bytes_max, decode)


def _general_problem(general: Any, duration: float, bounds: _VideoBounds) -> MediaProblem | None:
    """Container, index and length; edit lists do not show, and most encoders write harmless ones."""
    is_whole = general.istruncated != "Yes" and general.isstreamable != "No"
    # Half a second of grace: a container's length is rounded up to whole frames.
    has_length = bounds.seconds[0] <= duration <= bounds.seconds[1] + 0.5
    return None if general.format in _CONTAINERS and is_whole and has_length else MediaProblem.UNSUPPORTED


def _picture_problem(video: Any, bounds: _VideoBounds) -> MediaProblem | None:
    width, height = int(video.width or 0), int(video.height or 0)
    if min(width, height) < max(bounds.side_min, 1):
        return MediaProblem.TOO_SMALL
    is_good = (
        video.format in bounds.codecs
        and width <= bounds.width_max
        and bounds.ratios[0] <= width / height <= bounds.ratios[1]
        and video.chroma_subsampling in (None, "4:2:0")
        and video.scan_type in (None, "Progressive")
        and (video.frame_rate is None or bounds.frame_rates[0] <= float(video.frame_rate) <= bounds.frame_rates[1])
    )
    return None if is_good else MediaProblem.UNSUPPORTED


def _is_sound_bad(sound: Any, bounds: _VideoBounds) -> bool:
    return (
        sound.format != "AAC"
        or int(sound.sampling_rate or 0) > bounds.sampling_rate_max
        or int(sound.channel_s or 0) > bounds.channels_max
    )


_MEBIBYTE: Final = 1_048_576
_H264_H265: Final = frozenset({"AVC", "HEVC"})
_PAGE_CODECS: Final = frozenset({"AVC", "HEVC", "VP9", "AV1"})
_FEED_RATIOS: Final = (0.8, 1.91)
_LAX: Final = frozenset({"JPEG", "PNG", "WEBP"})


def _instagram_bounds(seconds_max: float, ratio_min: float) -> _VideoBounds:
    return _VideoBounds(_H264_H265, (3, seconds_max), (ratio_min, 10), 1, 1_920, (22.9, 60.1), 48_000, 2)


def _page_bounds(seconds: tuple[float, float], side_min: int) -> _VideoBounds:
    return _VideoBounds(_PAGE_CODECS, seconds, (0.01, 100), side_min, 10_000, (1, 1_000), 192_000, 8)


# Meta: IG User Media reference. Pillow calls a JPEG of several pictures MPO: it is none.
STORY_IMAGE: Final = _image_rule("story image", 8 * _MEBIBYTE, frozenset({"JPEG"}))
LAX_IMAGE: Final = _image_rule("lax image", 8 * _MEBIBYTE, _LAX)
FEED_IMAGE: Final = _image_rule("feed image", 8 * _MEBIBYTE, frozenset({"JPEG"}), _FEED_RATIOS)
LAX_FEED_IMAGE: Final = _image_rule("lax feed image", 8 * _MEBIBYTE, _LAX, _FEED_RATIOS)
STORY_VIDEO: Final = _video_rule("story video", 100_000_000, _instagram_bounds(60, 0.1))
ITEM_VIDEO: Final = _video_rule("carousel video", 300_000_000, _instagram_bounds(60, 0.01))
REEL: Final = _video_rule("reel", 300_000_000, _instagram_bounds(900, 0.01))
# Meta: Page Photos reference; Page Stories API; Reels Publishing guide; Video API error codes.
PAGE_PHOTO: Final = _image_rule("page photo", 10_000_000, frozenset({"JPEG", "MPO", "BMP", "PNG", "GIF", "TIFF"}))
PAGE_VIDEO: Final = _video_rule("page video", 2_000_000_000, _page_bounds((3, 90), 540))
PAGE_SHORT_VIDEO: Final = _video_rule("short page video", 2_000_000_000, _page_bounds((3, 60), 540))
PAGE_FEED_VIDEO: Final = _video_rule("page feed video", 2_000_000_000, _page_bounds((1, 2_400), 1))
