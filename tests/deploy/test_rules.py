"""Alerts and recording rules: what promtool says of them, and that each leads a person somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.cli.application import build
from tests.deploy.files import (
    DASHBOARD,
    DEPLOY,
    PROMETHEUS,
    RUNBOOK,
    anchors,
    checked,
    metrics_in,
    read_yaml,
    rules,
    tool,
)
from tests.test_readme import metric_names

ALERTS = rules("alerts.yml")
NAMES = [alert["alert"] for alert in ALERTS]
UNIT_TESTS = Path(__file__).with_name("alerts_test.yml")


def test_promtool_takes_the_configuration_and_the_rules() -> None:
    """With every rule file that it names."""
    said = checked(tool("promtool", "prometheus"), "check", "config", PROMETHEUS / "prometheus.yml")
    assert said.count("rules found") >= 2


def test_alerts_fire_and_resolve_as_the_unit_tests_say() -> None:
    """Before the cause, while it lasts, after its end."""
    assert "SUCCESS" in checked(tool("promtool", "prometheus"), "test", "rules", UNIT_TESTS)


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_is_seen_firing_and_not_firing(name: str) -> None:
    """An alert that was never seen to fire is none."""
    looks = [
        look["exp_samples"]
        for test in read_yaml(UNIT_TESTS)["tests"]
        for look in test.get("promql_expr_test", [])
        if f'alertname="{name}"' in look["expr"]
    ]
    assert [bool(samples) for samples in looks[:3]] == [False, True, False]


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_tells_what_it_means_and_where_to_read_on(alert: dict[str, Any]) -> None:
    """Severity, summary, description, and a section of the runbook with its name."""
    assert alert["labels"]["severity"] in {"page", "ticket"}
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert told["runbook_url"] == "{{ $externalLabels.runbooks }}RUNBOOK.md#" + alert["alert"].lower()
    assert alert["alert"].lower() in set(anchors(RUNBOOK))
    [section] = re.findall(rf"^## {alert['alert']}\n\n`(\w+)`", RUNBOOK.read_text(), re.MULTILINE)
    assert section == alert["labels"]["severity"]


def test_the_runbook_has_no_section_for_an_alert_that_is_gone() -> None:
    """And all its links lead somewhere."""
    text = RUNBOOK.read_text()
    assert set(re.findall(r"^## (Outbox\w+)$", text, re.MULTILINE)) == set(NAMES)
    for path, anchor in re.findall(r"\]\(([^)#:]*)#?([^)]*)\)", text):
        file = DEPLOY / path if path else RUNBOOK
        assert file.exists(), path
        assert not anchor or anchor in set(anchors(file)), f"{path}#{anchor}"


def test_commands_of_the_runbook_are_commands() -> None:
    """Every `outbox ...` that it tells people to type, with its options."""
    text = RUNBOOK.read_text()
    typed = set(re.findall(r"^\$ (outbox .*?)(?:  |\n| \|)", text, re.MULTILINE))
    typed |= {" ".join(each.split()) for each in re.findall(r"`(outbox [a-z][^`]*)`", text)}
    assert len(typed) > 15
    known = options_by_command()
    for line in sorted(typed):
        words = re.sub(r'"[^"]*"|<.*', "", line).removeprefix("outbox ")
        command = next((name for name in known if f"{words} ".startswith(f"{name} ")), None)
        assert command is not None, line
        unknown = set(re.findall(r"(?<!\S)--[a-z-]+", words)) - known[command]
        assert not unknown, f"{line}: no option {unknown}"


def options_by_command() -> dict[str, set[str]]:
    """The options of every command, the longest names first."""
    found: dict[str, set[str]] = {}
    pending = list(build().commands.items())
    while pending:
        name, command = pending.pop()
        found[name] = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        pending += [(f"{name} {inner}", each) for inner, each in getattr(command, "commands", {}).items()]
    return dict(sorted(found.items(), reverse=True))


def queries() -> list[str]:
    """What the dashboard's panels ask, with a window in Grafana's place."""
    found = [
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel.get("targets", [])
    ]
    return [query.replace("$__rate_interval", "1m") for query in found]


def test_the_dashboard_asks_in_valid_promql(tmp_path: Path) -> None:
    """Each query as a rule, for promtool to read."""
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    assert len(recorded) > 20
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    checked(tool("promtool", "prometheus"), "check", "rules", tmp_path / "queries.yml")


def test_no_metric_is_left_unwatched() -> None:
    """Each is on the dashboard: what nobody looks at needs no metric."""
    shown = {re.sub(r"_(bucket|count|sum)$", "", metric) for query in queries() for metric in metrics_in(query)}
    assert set(metric_names()) - shown == set()


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    """Grafana draws one panel over another, and says nothing."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (place["x"] + right, place["y"] + down)
        for place in (panel["gridPos"] for panel in panels)
        for right in range(place["w"])
        for down in range(place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(across for across, _ in taken) < 24
