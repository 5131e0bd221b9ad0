"""Texts that Instagram would refuse are found before a call is spent on them."""

from __future__ import annotations

import unicodedata
from uuid import UUID

import pytest

from publisher.placement import MediaType, Medium
from publisher.texts import text_problem
from publisher.variants import Variant


def variant(caption: str, alt_text: str | None = None) -> Variant:
    medium = Medium(MediaType.IMAGE, "https://media.example/1.jpg", alt_text=alt_text)
    return Variant(UUID(int=0), "feed", "approved", (medium,), caption=caption)


@pytest.mark.parametrize(
    "caption",
    ["", "Ripe", "x" * 2_200, "ü" * 2_200, "#ripe " * 30, "@anna " * 20, "a@b.example " * 25, "R&#38;D " * 40],
)
def test_a_text_within_the_bounds_is_no_problem(caption: str) -> None:
    """Letters are counted, not bytes; an address in a text mentions nobody, and an entity is no hashtag."""
    assert text_problem(variant(caption), "instagram") is None


@pytest.mark.parametrize(
    "caption",
    [
        unicodedata.normalize("NFD", "\u00fc") * 2_200,
        "\u0915\u093f" * 2_200,
        "\U0001f469\u200d\U0001f33e" * 2_200,
        unicodedata.normalize("NFD", "caf\u00e9#1 ") * 31,
    ],
    ids=["accents", "vowel signs", "joined", "no hashtag"],
)
def test_a_letter_is_one_however_it_is_composed(caption: str) -> None:
    """Text from macOS has its accents apart: it is refused by Meta, if at all, and not before it gets there."""
    assert text_problem(variant(caption, caption[:2_000]), "instagram") is None


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("x" * 2_201, "expected at most 2,200 characters in the caption, found 2,201"),
        (
            unicodedata.normalize("NFD", "\u00fc") * 2_201,
            "expected at most 2,200 characters in the caption, found 2,201",
        ),
        ("#ripe " * 31, "expected at most 30 hashtags in the caption, found 31"),
        ("@anna " * 21, "expected at most 20 mentions in the caption, found 21"),
    ],
)
def test_a_caption_beyond_a_bound_says_which(caption: str, expected: str) -> None:
    """With the bound, what was found, and Meta's page; never the caption."""
    problem = text_problem(variant(caption), "instagram")
    assert problem is not None
    assert problem.startswith(expected)
    assert "IG User Media reference" in problem
    assert caption[:20] not in problem


def test_an_alternative_text_has_a_bound_too() -> None:
    """A thousand characters."""
    assert text_problem(variant("", "x" * 1_000), "instagram") is None
    assert "alternative text" in (text_problem(variant("", "x" * 1_001), "instagram") or "")


def test_a_page_has_no_documented_bound() -> None:
    """What Meta does not document is left to Meta."""
    assert text_problem(variant("x" * 70_000), "facebook") is None
