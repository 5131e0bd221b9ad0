"""The script of a relay's handler."""

from __future__ import annotations

import pytest

from tests.relay.running import Script


@pytest.fixture
def script() -> Script:
    """A handler that publishes whatever it is given."""
    return Script()
