"""HTML that escapes by itself: only what an element made is taken as HTML."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, /, *content: str | None, **attributes: str | None) -> Markup:
    """Return an element; `None` is left out, `class_` is `class`, and a dash is an underscore."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    head = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    if tag in _VOID:
        return Markup(f"<{tag}{head}>")
    return Markup(f"<{tag}{head}>{join(*content)}</{tag}>")


def join(*content: str | None) -> Markup:
    """Return contents one after another, escaped where they are plain text."""
    return Markup("".join(it if isinstance(it, Markup) else escape(it) for it in content if it is not None))


_VOID = frozenset({"img", "input", "link", "meta"})
