"""What a file says of itself, read from its beginning. Well-kept libraries do the reading: Pillow and MediaInfo.

An image tells all in its header. A video tells all in its `moov` box; where that comes first, as Instagram asks, a few
megabytes are enough, and where it does not, that is all that is learnt of it.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any
from xml.etree.ElementTree import ParseError

from PIL import Image, UnidentifiedImageError
from pymediainfo import MediaInfo

from outbox.event import JsonObject

IMAGE_HEAD_BYTES = 65_536
VIDEO_HEAD_BYTES = 4 * 1_048_576
_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})
_LARGE = 1
# How an MP4 or QuickTime file may begin.
_FIRST = frozenset({b"ftyp", b"wide", b"mdat", b"moov", b"free", b"skip"})


def image_facts(head: bytes) -> JsonObject | None:
    """Return what an image's header says; None where it is no image, or begins later than that."""
    try:
        # Nothing is decoded: a picture of a gigapixel costs no more than another.
        with warnings.catch_warnings(), Image.open(io.BytesIO(head)) as image:
            warnings.simplefilter("ignore")
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in _TURNED:
                width, height = height, width
            return {"format": image.format, **_sides(width, height)}
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def video_facts(head: bytes, *, is_whole: bool) -> JsonObject | None:
    """Return what a video's beginning says; None where it is no video."""
    boxes = _boxes(head)
    order = [name for name, _ in boxes if name in {"moov", "mdat"}]
    is_index_first = order[:1] == ["moov"]
    if boxes and not is_whole and ("moov", True) not in boxes:
        return {"is_index_first": is_index_first}
    try:
        tracks = MediaInfo.parse(io.BytesIO(head))
    except (OSError, RuntimeError, ValueError, ParseError):
        return None
    if not tracks.general_tracks or not tracks.video_tracks:
        return None
    general, video = tracks.general_tracks[0], tracks.video_tracks[0]
    facts: JsonObject = {
        "format": general.format,
        "codec": video.format,
        **_sides(int(video.width or 0), int(video.height or 0)),
        "duration_seconds": _seconds(video.duration or general.duration),
        "frames_per_second": _number(video.frame_rate),
        "bits_per_second": _number(video.bit_rate),
        "scan": video.scan_type,
        "chroma": video.chroma_subsampling,
        "is_index_first": is_index_first if boxes else None,
    }
    if tracks.audio_tracks:
        audio = tracks.audio_tracks[0]
        facts |= {
            "audio_codec": audio.format,
            "audio_channels": _number(audio.channel_s),
            "audio_samples_per_second": _number(audio.sampling_rate),
        }
    return {name: value for name, value in facts.items() if value is not None}


def _boxes(head: bytes) -> list[tuple[str, bool]]:
    """Return the outermost boxes of an MP4 that begin here, and whether they are here whole (ISO/IEC 14496-12)."""
    boxes: list[tuple[str, bool]] = []
    at = 0
    while at + 16 <= len(head):
        size, name = struct.unpack_from(">I4s", head, at)
        if not name.isalnum() or (not boxes and name not in _FIRST):
            return boxes
        if size == _LARGE:
            (size,) = struct.unpack_from(">Q", head, at + 8)
        boxes.append((name.decode(), 8 <= size <= len(head) - at))
        if size < 8:
            return boxes
        at += size
    return boxes


def _sides(width: int, height: int) -> JsonObject:
    if not width or not height:
        return {}
    return {"width": width, "height": height, "aspect_ratio": round(width / height, 4)}


def _seconds(milliseconds: Any) -> float | None:
    number = _number(milliseconds)
    return None if number is None else round(number / 1_000, 3)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
