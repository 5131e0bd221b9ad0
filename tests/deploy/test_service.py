"""The systemd unit: valid, hardened, and of one mind with the relay's settings."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from relay.settings import RelaySettings
from tests.deploy.files import DEPLOY, checked, tool

UNIT = DEPLOY / "outbox-relay.service"
EXPOSURE_MAX = 2.0


def test_systemd_takes_every_line(tmp_path: Path) -> None:
    """With a program that is there in the place of the one that an installation brings."""
    there = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text(), flags=re.MULTILINE)
    (tmp_path / UNIT.name).write_text(there)
    analyze = tool("systemd-analyze", "systemd")
    said = checked(analyze, "verify", "--recursive-errors=no", "--man=no", tmp_path / UNIT.name)
    assert said == ""


def test_the_service_may_do_little() -> None:
    """What systemd counts as its exposure, of 10."""
    analyze = tool("systemd-analyze", "systemd")
    said = checked(analyze, "security", "--offline=true", "--no-pager", f"--threshold={int(EXPOSURE_MAX * 10)}", UNIT)
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert exposure is not None
    assert 0 < float(exposure[1]) <= EXPOSURE_MAX


def test_systemd_waits_longer_than_the_relay_takes_to_stop() -> None:
    """Else every stop would be a kill."""
    waits = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert waits is not None
    assert int(waits[1]) > 1.5 * RelaySettings.model_fields["shutdown_seconds"].default


@pytest.mark.parametrize("name", ["dsn", "token-keys"])
def test_secrets_come_as_credentials(name: str) -> None:
    """As files that only the service sees, never as environment variables, which every child and `ps e` show."""
    unit = UNIT.read_text()
    assert f"LoadCredential={name}:/etc/outbox-relay/{name}" in unit
    assert re.search(rf"^Environment=\w+_FILE=%d/{name}$", unit, re.MULTILINE)
    assert not re.search(r"^Environment=(OUTBOX_DSN|PUBLISHER_TOKEN_KEYS)=", unit, re.MULTILINE)
