"""The files of deploy/, and the tools that read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.processes import ROOT

DEPLOY: Final = ROOT / "deploy"
PROMETHEUS: Final = DEPLOY / "prometheus"
RUNBOOK: Final = DEPLOY / "RUNBOOK.md"
DASHBOARD: Final = DEPLOY / "grafana/dashboards/outbox-relay.json"


def read_yaml(path: Path) -> Any:
    """The one document of a YAML file."""
    return yaml.safe_load(path.read_text())


def rules(name: str) -> list[dict[str, Any]]:
    """The rules of a file of deploy/prometheus."""
    return [rule for group in read_yaml(PROMETHEUS / name)["groups"] for rule in group["rules"]]


def metrics_in(expression: str) -> set[str]:
    """The metrics of ours that a PromQL expression names, rules that record one not among them."""
    return set(re.findall(r"(?<![a-z:_])outbox_[a-z_]+(?![a-z:_])", expression))


def anchors(path: Path) -> Iterator[str]:
    """Where a link into a Markdown file can lead, as GitHub and GitLab make them of headings."""
    for title in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def tool(name: str, package: str) -> str:
    """The path of a program, or a skip that says what brings it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine: apt-get install {package}, or .ci/run, brings it")
    return found


def checked(*command: str | Path) -> str:
    """Run a checker, which must be content; return what it said."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert answer.returncode == 0, f"{answer.stdout}{answer.stderr}"
    return answer.stdout + answer.stderr
