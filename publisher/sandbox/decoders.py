"""Looks into media files. The only module that needs the optional extra `sandbox`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final
from xml.etree.ElementTree import ParseError

from publisher.sandbox.errors import SandboxError
from publisher.sandbox.objects import MediaProblem

try:
    from PIL import Image
    from pymediainfo import MediaInfo
except ImportError as missing:
    raise SandboxError(
        f"Checking media needs Pillow and pymediainfo, and {missing.name} is not installed: install "
        "outbox-relay[sandbox], or set check_media to false (SANDBOX_CHECK_MEDIA=false)."
    ) from missing

_PIXELS_MAX: Final = 60_000_000
_CONTAINERS: Final = frozenset({"MPEG-4", "QuickTime"})


@dataclass(frozen=True, slots=True)
class MediaRule:
    """What a file must be; `decode` runs in a thread and returns what is wrong with it."""

    size_bytes_max: int
    decode: Callable[[IO[bytes]], MediaProblem | None]


def _image_rule(size_bytes_max: int, formats: frozenset[str]) -> MediaRule:
    def decode(file: IO[bytes]) -> MediaProblem | None:
        try:
            with Image.open(file) as image:
                if image.format not in formats or image.width * image.height > _PIXELS_MAX:
                    return MediaProblem.UNSUPPORTED
                image.load()
        except (OSError, ValueError, SyntaxError, EOFError, Warning, Image.DecompressionBombError):
            return MediaProblem.UNSUPPORTED
        return None

    return MediaRule(size_bytes_max, decode)


def _video_rule(
    size_bytes_max: int, codecs: frozenset[str], seconds: tuple[float, float], pixels: tuple[int, int]
) -> MediaRule:
    """Build a rule; `pixels` bounds the shorter side from below and the width from above."""

    def decode(file: IO[bytes]) -> MediaProblem | None:
        try:
            tracks = MediaInfo.parse(file)
        except (OSError, RuntimeError, ValueError, ParseError):
            return MediaProblem.UNSUPPORTED
        if not tracks.general_tracks or not tracks.video_tracks:
            return MediaProblem.UNSUPPORTED
        general, video = tracks.general_tracks[0], tracks.video_tracks[0]
        duration = float(general.duration or video.duration or 0) / 1_000
        is_whole = general.istruncated != "Yes"
        if general.format not in _CONTAINERS or video.format not in codecs or not is_whole:
            return MediaProblem.UNSUPPORTED
        # Half a second of grace: a container's length is rounded up to whole frames.
        if not seconds[0] <= duration <= seconds[1] + 0.5:
            return MediaProblem.UNSUPPORTED
        width, height = int(video.width or 0), int(video.height or 0)
        if min(width, height) < pixels[0]:
            return MediaProblem.TOO_SMALL
        return MediaProblem.UNSUPPORTED if width > pixels[1] else None

    return MediaRule(size_bytes_max, decode)


# Meta: IG User Media reference.
_MEBIBYTE: Final = 1_048_576
STORY_IMAGE: Final = _image_rule(8 * _MEBIBYTE, frozenset({"JPEG"}))
ANY_IMAGE: Final = _image_rule(8 * _MEBIBYTE, frozenset({"JPEG", "PNG", "WEBP"}))
STORY_VIDEO: Final = _video_rule(100_000_000, frozenset({"AVC", "HEVC"}), (3, 60), (1, 1_920))
# Meta: Page Photos reference; Page Stories API. Meta says both 60 and 90 seconds: the sandbox takes 90.
PAGE_PHOTO: Final = _image_rule(10_000_000, frozenset({"JPEG", "MPO", "BMP", "PNG", "GIF", "TIFF"}))
PAGE_VIDEO: Final = _video_rule(2_000_000_000, frozenset({"AVC", "HEVC", "VP9", "AV1"}), (3, 90), (540, 10_000))
