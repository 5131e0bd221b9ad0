"""The demo's settings."""

from __future__ import annotations

import pytest

from relay.demo.settings import publisher_settings, relay_settings, sandbox_settings
from tests.demo.runs import DISTURBING


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person exported for a relay of theirs changes nothing."""
    before = relay_settings("dsn"), publisher_settings("http://127.0.0.1:1", "key"), sandbox_settings()
    for name, value in DISTURBING.items():
        monkeypatch.setenv(name, value)
    after = relay_settings("dsn"), publisher_settings("http://127.0.0.1:1", "key"), sandbox_settings()
    assert before == after
