"""What Meta says of texts, checked before a call is spent on it. Pure.

Counted as one reads them: a letter with its accents and vowel signs is one character, however it is composed; a number
sign or an at sign counts where it begins a word. What Meta takes for a character it does not say: what it counts
otherwise it refuses itself (36004/2207010), and that is an end as well, but what is refused here never gets there. A
Page's texts have no documented bound: 63,206 characters is folklore (sheet 2.5).
"""

from __future__ import annotations

import re
import unicodedata

from publisher.variants import Variant

# Meta: IG User Media reference (sheet 1.2).
CAPTION_LENGTH_MAX = 2_200
HASHTAGS_MAX = 30
MENTIONS_MAX = 20
ALT_TEXT_LENGTH_MAX = 1_000
COLLABORATORS_MAX = 3
JOINER = "\u200d"
SOURCE = "Meta: IG User Media reference"

_HASHTAG = re.compile(r"(?<![\w&])#\w")
_MENTION = re.compile(r"(?<!\w)@\w")


def text_problem(variant: Variant, platform: str) -> str | None:
    """Return what of a variant's texts Instagram would refuse, in one sentence; None where nothing."""
    if platform != "instagram":
        return None
    caption = unicodedata.normalize("NFC", variant.caption or "")
    alt_text = max((_length(medium.alt_text or "", ALT_TEXT_LENGTH_MAX) for medium in variant.media), default=0)
    counts = (
        ("characters in the caption", _length(caption, CAPTION_LENGTH_MAX), CAPTION_LENGTH_MAX),
        ("hashtags in the caption", len(_HASHTAG.findall(caption)), HASHTAGS_MAX),
        ("mentions in the caption", len(_MENTION.findall(caption)), MENTIONS_MAX),
        ("characters in an alternative text", alt_text, ALT_TEXT_LENGTH_MAX),
        ("collaborators", len(variant.collaborators or ()), COLLABORATORS_MAX),
    )
    for what, found, most in counts:
        if found > most:
            return (
                f"expected at most {most:,} {what}, found {found:,} ({SOURCE}); shorten it and create another variant"
            )
    return None


def _length(text: str, most: int) -> int:
    """Count characters where they matter: marks belong to the one before them, and a joiner makes one of two."""
    if len(text) <= most:
        return len(text)
    return sum(1 for each in text if unicodedata.category(each)[0] != "M") - 2 * text.count(JOINER)
