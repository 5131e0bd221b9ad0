"""Settings are refused in one sentence that names the variable and never its value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outbox.settings import SettingsError, source
from relay.settings import DatabaseSettings, RelaySettings

SECRET = "postgresql://relay:sesame@db.example/app"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the variables that a test sets."""
    for name in list(os.environ):
        if name.upper().startswith("OUTBOX_") and not name.startswith("OUTBOX_TEST_"):
            monkeypatch.delenv(name)


def test_a_dsn_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else has a default."""
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    settings = RelaySettings.load()
    assert settings.dsn.get_secret_value() == SECRET
    assert settings.lease_seconds == 15


def test_a_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is its variable's value, in its own type."""
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    monkeypatch.setenv("OUTBOX_LEASE_SECONDS", "2.5")
    assert RelaySettings.load().lease_seconds == 2.5


def test_a_missing_dsn_says_what_is_expected() -> None:
    """The sentence names the variable and shows what it should hold."""
    with pytest.raises(SettingsError, match=r"^OUTBOX_DSN is not set: expected a PostgreSQL connection string"):
        RelaySettings.load()


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose and shells pass one on so; libpq would take an empty address for one of its own choice."""
    monkeypatch.setenv("OUTBOX_DSN", "")
    monkeypatch.setenv("OUTBOX_LEASE_SECONDS", "")
    with pytest.raises(SettingsError, match=r"^OUTBOX_DSN is not set: "):
        RelaySettings.load()
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    assert RelaySettings.load().lease_seconds == RelaySettings.model_fields["lease_seconds"].default
    assert source(RelaySettings, "lease_seconds") == "default"


def test_an_unknown_variable_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error does not silently leave a default in force."""
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    monkeypatch.setenv("OUTBOX_LEASE_SECOND", "2.5")
    with pytest.raises(
        SettingsError, match=r"^OUTBOX_LEASE_SECOND is not a setting: .*; did you mean OUTBOX_LEASE_SECONDS\?$"
    ):
        RelaySettings.load()


def test_commands_for_people_leave_unknown_variables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs the database's address only reads that."""
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    monkeypatch.setenv("OUTBOX_LEASE_SECOND", "2.5")
    assert DatabaseSettings.load().dsn.get_secret_value() == SECRET


def test_variables_of_the_tests_are_nobodys_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is set up for tests can run a relay."""
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    monkeypatch.setenv("OUTBOX_TEST_ANYTHING", "1")
    RelaySettings.load()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("OUTBOX_LEASE_SECONDS", "0.123456"),
        ("OUTBOX_LEASE_SECONDS", "se-same"),
        ("OUTBOX_CONCURRENCY", "0"),
        ("OUTBOX_METRICS_PORT", "65536"),
        ("OUTBOX_LOG_FORMAT", "se-same"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_unshown(monkeypatch: pytest.MonkeyPatch, name: str, given: str) -> None:
    """The sentence begins with the variable; a value in the wrong variable may be a secret."""
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    monkeypatch.setenv(name, given)
    with pytest.raises(SettingsError, match=rf"^{name}: ") as raised:
        RelaySettings.load()
    message = str(raised.value)
    assert "sesame" not in message
    assert "se-same" not in message
    assert "0.123456" not in message
    assert "\n" not in message


def test_the_dsn_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printing settings prints no password."""
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    assert "sesame" not in repr(RelaySettings.load())


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the line's end; the source is told, not the value."""
    path = tmp_path / "dsn"
    path.write_text(f"{SECRET}\n")
    monkeypatch.setenv("OUTBOX_DSN_FILE", str(path))
    for settings in (DatabaseSettings.load(), RelaySettings.load()):
        assert settings.dsn.get_secret_value() == SECRET
    assert source(RelaySettings, "dsn") == f"file {path}"
    assert source(RelaySettings, "lease_seconds") == "default"
    monkeypatch.setenv("OUTBOX_LEASE_SECONDS", "5")
    assert source(RelaySettings, "lease_seconds") == "environment"


def test_a_secret_has_one_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two are a mistake, and a file that can't be read is one; a setting that is no secret has no file."""
    path = tmp_path / "dsn"
    monkeypatch.setenv("OUTBOX_DSN_FILE", str(path))
    with pytest.raises(SettingsError, match=r"^OUTBOX_DSN_FILE: expected a file with the value at .*: No such file"):
        RelaySettings.load()
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="it is not UTF-8"):
        RelaySettings.load()
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    with pytest.raises(SettingsError, match=r"^expected OUTBOX_DSN or OUTBOX_DSN_FILE, found both"):
        RelaySettings.load()
    monkeypatch.delenv("OUTBOX_DSN_FILE")
    monkeypatch.setenv("OUTBOX_LOG_LEVEL_FILE", str(path))
    with pytest.raises(SettingsError, match=r"^OUTBOX_LOG_LEVEL_FILE is not a setting"):
        RelaySettings.load()


@pytest.mark.parametrize(
    ("name", "value", "values"),
    [
        ("OUTBOX_LEASE_SECONDS", "soon", "1 to 300"),
        ("OUTBOX_LEASE_SECONDS", "0", "1 to 300"),
        ("OUTBOX_HANDLER_SECONDS", "0", "more than 0 to 3600"),
        ("OUTBOX_IN_HAND_MAX", "0", "1 at least"),
        ("OUTBOX_LOG_FORMAT", "xml", "auto, json, console"),
    ],
)
def test_a_refusal_says_what_is_allowed(monkeypatch: pytest.MonkeyPatch, name: str, value: str, values: str) -> None:
    """Beside the name."""
    monkeypatch.setenv("OUTBOX_DSN", SECRET)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"^{name}: .*; allowed: {values}$"):
        RelaySettings.load()
