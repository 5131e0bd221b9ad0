"""What Meta says of texts, checked before a call is spent on it. Pure.

Counted as one reads them: a number sign or an at sign that begins a word. What Meta counts otherwise it refuses itself
(36004/2207010), and that is an end as well. A Page's texts have no documented bound: 63,206 characters is folklore
(sheet 2.5).
"""

from __future__ import annotations

import re

from publisher.variants import Variant

# Meta: IG User Media reference (sheet 1.2).
CAPTION_LENGTH_MAX = 2_200
HASHTAGS_MAX = 30
MENTIONS_MAX = 20
ALT_TEXT_LENGTH_MAX = 1_000
COLLABORATORS_MAX = 3
SOURCE = "Meta: IG User Media reference"

_HASHTAG = re.compile(r"(?<![\w&])#\w")
_MENTION = re.compile(r"(?<!\w)@\w")


def text_problem(variant: Variant, platform: str) -> str | None:
    """Return what of a variant's texts Instagram would refuse, in one sentence; None where nothing."""
    if platform != "instagram":
        return None
    caption = variant.caption or ""
    alt_text = max((len(medium.alt_text or "") for medium in variant.media), default=0)
    counts = (
        ("characters in the caption", len(caption), CAPTION_LENGTH_MAX),
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
