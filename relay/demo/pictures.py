"""Draws a picture for each story."""

from __future__ import annotations

import colorsys
import io

from PIL import Image, ImageDraw, ImageFont, ImageOps

from relay.demo.script import STORY_COUNT

SIZE = (1080, 1920)
WHITE = (255, 255, 255)


def draw(number: int, title: str) -> bytes:
    """Return a JPEG in story format: a gradient in the story's own colours, its number and a title."""
    hue = number / STORY_COUNT
    picture = ImageOps.colorize(
        Image.linear_gradient("L").resize(SIZE), black=_colour(hue, 0.65, 0.35), white=_colour(hue + 0.12, 0.45, 0.95)
    )
    canvas = ImageDraw.Draw(picture)
    middle = SIZE[0] / 2
    canvas.text((middle, 900), f"{number:02}", fill=WHITE, font=ImageFont.load_default(520), anchor="mm")
    canvas.text((middle, 1260), title, fill=WHITE, font=ImageFont.load_default(84), anchor="mm")
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=85)
    return content.getvalue()


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
