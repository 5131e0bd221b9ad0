"""What Meta's usage headers say, and what follows. Pure.

| header                       | about                 | figures                                        |
|------------------------------|-----------------------|------------------------------------------------|
| `X-App-Usage`                | the app               | percentages, no time to wait                   |
| `X-Business-Use-Case-Usage`  | the account           | percentages, and minutes until access is back  |
| `X-Page-Usage`               | the account           | as X-App-Usage; not documented any more        |

All figures are whole percentages; any of the three that reaches 100 throttles. A header that is missing says nothing:
it is not zero. A business has a row for each of its use cases, and a limit each: those of advertising and messages say
nothing of publishing (Meta: Rate Limits; sheet 5.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import orjson

APP = "app"

APP_HEADER = "X-App-Usage"
BUSINESS_HEADER = "X-Business-Use-Case-Usage"
PAGE_HEADER = "X-Page-Usage"
RETRY_AFTER_HEADER = "Retry-After"

HEADERS_MAX = 4096
"""How many texts of headers are remembered: figures are whole, so the same ones come again and again."""

FIGURES = ("call_count", "total_time", "total_cputime")
REGAIN = "estimated_time_to_regain_access"

OTHER_USE_CASES = frozenset({"ads_insights", "ads_management", "custom_audience", "leadgen", "messenger"})
"""All that Meta names beside `instagram` and `pages`. A row of another name, or of none, counts."""

SLOW_PERCENT = 75
"""From here on the calls of an account are spread (sheet 5.3)."""
HELD_PERCENT = 90
"""From here on it makes no calls until the hour is over (sheet 5.3)."""
HOUR = 3600.0
"""How long a figure counts: windows roll by the hour."""


class Pace(StrEnum):
    """How fast an account, or the app, may go on."""

    OK = "ok"
    SLOW = "slow"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one answer said of one account, or of the app.

    Attributes:
        percent: The highest figure.
        regain_seconds: How long calls are refused; 0 says nothing.
    """

    percent: int
    regain_seconds: float = 0.0

    @property
    def pace(self) -> Pace:
        """What it asks for."""
        if self.percent >= HELD_PERCENT or self.regain_seconds > 0:
            return Pace.HELD
        return Pace.SLOW if self.percent >= SLOW_PERCENT else Pace.OK

    def hold_seconds(self, limit_seconds: float = HOUR) -> float:
        """Return how long to make no call, counted from the answer: until the stated time, else for the limit's."""
        if self.pace is not Pace.HELD:
            return 0.0
        return self.regain_seconds or limit_seconds


def read_usage(headers: Mapping[str, str], account: str) -> dict[str, Usage]:
    """Return what the headers of an answer say of the app and of the account that called; only what they name."""
    found: dict[str, Usage] = {}
    text = headers.get(APP_HEADER)
    if text is not None and (app := _read_figures(text)) is not None:
        found[APP] = app
    business, page = headers.get(BUSINESS_HEADER), headers.get(PAGE_HEADER)
    if (business or page) and (used := _read_account(business, page)) is not None:
        found[account] = used
    return found


def regain_seconds(headers: Mapping[str, str]) -> float | None:
    """Return how long the headers of an error say that the limit lasts, at most a day; None where they say nothing.

    Graph documents no Retry-After; where it comes all the same, the longer of both counts (sheet 5.3).
    """
    after, used = headers.get(RETRY_AFTER_HEADER, ""), _read_account(headers.get(BUSINESS_HEADER), None)
    stated = 0.0 if used is None else used.regain_seconds
    return min(max(float(after) if after.isdecimal() else 0.0, stated), 24 * HOUR) or None


def pause_seconds(percent: int, first_and_longest: tuple[float, float]) -> float:
    """Return the pause between two turns from `SLOW_PERCENT` on: the first there, the longest just before the hold."""
    first, longest = first_and_longest
    share = (percent - SLOW_PERCENT) / (HELD_PERCENT - 1 - SLOW_PERCENT)
    return first + (longest - first) * min(max(share, 0.0), 1.0)


@lru_cache(HEADERS_MAX)
def _read_figures(text: str) -> Usage | None:
    return _highest([_parsed(text)])


@lru_cache(HEADERS_MAX)
def _read_account(business: str | None, page: str | None) -> Usage | None:
    """One call of an Instagram account has two entries, the business's and the account's: either throttles it."""
    entries = [
        entry for rows in _parsed(business).values() if isinstance(rows, list) for entry in filter(_counts, rows)
    ]
    return _highest([*entries, _parsed(page)])


def _counts(entry: object) -> bool:
    return not isinstance(entry, dict) or str(entry.get("type")) not in OTHER_USE_CASES


def _highest(entries: Iterable[Any]) -> Usage | None:
    """Take the worst of some entries; anything that is none is ignored."""
    rows = [entry for entry in entries if isinstance(entry, dict)]
    figures = [value for row in rows for name in FIGURES if (value := _number(row.get(name))) is not None]
    waits = [value for row in rows if (value := _number(row.get(REGAIN))) is not None]
    if not figures and not waits:
        return None
    # A wait that is longer than a day is none: windows roll within 24 hours.
    return Usage(min(int(max(figures, default=0)), 1_000_000), min(60.0 * max(waits, default=0), 24 * HOUR))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        parsed = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
