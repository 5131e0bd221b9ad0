"""Whether our packages are ours: pip overwrites a package of the same name without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions

from outbox.errors import OutboxError

DISTRIBUTION = "outbox-relay"
PACKAGES = ("outbox", "relay", "publisher", "schema")


class InstallationBroken(OutboxError):
    """Another distribution has installed a package of our name over ours, or ours over its."""


def require_sole_owner(owners: Mapping[str, Sequence[str]] | None = None) -> None:
    """Check that no other distribution brings one of our packages.

    Args:
        owners: The distributions of each top-level package; None asks the environment. An editable installation
            owns nothing there, so only others are looked for.

    Raises:
        InstallationBroken: One does; the sentence names it.
    """
    owners = packages_distributions() if owners is None else owners
    for package in PACKAGES:
        others = sorted({owner for owner in owners.get(package, ()) if owner != DISTRIBUTION})
        if others:
            raise InstallationBroken(
                f"expected the package {package!r} to be {DISTRIBUTION}'s alone, found that {', '.join(others)} brings "
                f"one too: install them into separate environments"
            )
