"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: all is well, it will hurt, or it hurts now."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `advice` is None where nothing is to be done."""

    check: str
    level: Level
    found: str
    advice: str | None = None


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, advice: str) -> Finding:
    """It will hurt."""
    return Finding(check, Level.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """It hurts now."""
    return Finding(check, Level.FAIL, found, advice)


def graded(check: str, value: float, bounds: tuple[float, float], found: str, advice: str) -> Finding:
    """Judge a value that is bad when it is large: from the first bound on a warning, from the second on a failure."""
    warns_from, fails_from = bounds
    if value >= fails_from:
        return fail(check, found, advice)
    return warn(check, found, advice) if value >= warns_from else ok(check, found)


def worst(findings: list[Finding]) -> Level:
    """Return the level of the worst finding."""
    levels = list(Level)
    return max((finding.level for finding in findings), key=levels.index, default=Level.OK)


def duration(seconds: float) -> str:
    """Show seconds as people say them."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
