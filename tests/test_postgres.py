"""Which server the tests take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.postgres import BINDIR_VARIABLE, DSN_VARIABLE, IMAGE_VARIABLE, choose


@pytest.mark.parametrize(("has_bridge", "kind"), [(True, "docker"), (False, "embedded")])
def test_docker_is_taken_where_it_publishes_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_bridge: bool, kind: str
) -> None:
    """A daemon of `--bridge=none`, as .ci/run starts one, runs a server that nobody can reach."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\n" + ("exit 0\n" if has_bridge else '[ "$1 $2" != "network inspect" ]\n'))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in (DSN_VARIABLE, BINDIR_VARIABLE, IMAGE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert choose().kind == kind
