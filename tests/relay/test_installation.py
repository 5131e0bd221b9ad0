"""Four top-level packages of common names: a clash is told at the start."""

from __future__ import annotations

import pytest

from relay.installation import InstallationBroken, require_sole_owner


def test_this_environment_has_no_clash() -> None:
    """The relay starts where only we bring our packages."""
    require_sole_owner()


def test_a_package_of_somebody_else_is_named() -> None:
    """There is a distribution named schema in the world, and pip would overwrite ours with it."""
    with pytest.raises(InstallationBroken, match=r"'schema' to be outbox-relay's alone, found that schema brings"):
        require_sole_owner({"outbox": ["outbox-relay"], "schema": ["outbox-relay", "schema"]})
