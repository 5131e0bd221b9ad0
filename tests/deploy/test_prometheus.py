"""A real Prometheus scrapes a real relay: every query is answered, and an alert fires and resolves."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from publisher.tokens import generate_key
from tests.cli.calling import started
from tests.deploy.files import PROMETHEUS, metrics_in, read_yaml, rules, tool
from tests.deploy.test_rules import queries
from tests.processes import poll
from tests.test_readme import metric_names

PATIENCE_SECONDS = 180
TRIES = 5


@dataclass(frozen=True, slots=True)
class Watched:
    """A relay, and a Prometheus that looks every second."""

    relay_url: str
    url: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series that answer an instant query; none while Prometheus is not up yet."""
        return list(self._get(f"query?{urllib.parse.urlencode({'query': query})}").get("result", []))

    def firing(self, name: str) -> list[dict[str, Any]]:
        """The alerts of a name that fire now, as they would go to an Alertmanager."""
        alerts = self._get("alerts").get("alerts", [])
        return [each for each in alerts if each["labels"]["alertname"] == name and each["state"] == "firing"]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with what became of its evaluation."""
        return [rule for group in self._get("rules").get("groups", []) for rule in group["rules"]]

    def _get(self, path: str) -> dict[str, Any]:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as response:  # noqa: S310
            found: dict[str, Any] = json.load(response)["data"]
            return found
        return {}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def in_a_hurry(directory: Path, relay: str) -> Path:
    """The configuration as it is delivered, but for where the relay is, and how often and how long it looks."""
    alerts = read_yaml(PROMETHEUS / "alerts.yml")
    for group in alerts["groups"]:
        for rule in group["rules"]:
            rule["for"] = "0s"
    config = read_yaml(PROMETHEUS / "prometheus.yml")
    config["global"].update(scrape_interval="1s", evaluation_interval="1s", external_labels={"runbooks": "deploy/"})
    [job] = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [relay]}]
    (directory / "alerts.yml").write_text(yaml.safe_dump(alerts))
    (directory / "recording.yml").write_text((PROMETHEUS / "recording.yml").read_text())
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    return directory / "prometheus.yml"


@contextmanager
def prometheus(config: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Debian's Prometheus on loopback, killed at the end."""
    command = [
        tool("prometheus", "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={config.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = config.with_name("log")
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def watched(database: str, tmp_path: Path) -> Iterator[Watched]:
    """Both as processes of their own."""
    tool("prometheus", "prometheus")
    environment = {
        "OUTBOX_DSN": database,
        "OUTBOX_GAUGE_SECONDS": "0.5",
        "OUTBOX_LOG_LEVEL": "error",
        "PUBLISHER_TOKEN_KEYS": generate_key(),
    }
    for _ in range(TRIES):
        relay, watcher = free_port(), free_port()
        config = in_a_hurry(tmp_path, f"127.0.0.1:{relay}")
        with (
            started("relay", **environment, OUTBOX_METRICS_PORT=str(relay)) as relaying,
            prometheus(config, watcher) as watching,
        ):
            found = Watched(f"http://127.0.0.1:{relay}", f"http://127.0.0.1:{watcher}")
            processes = (relaying, watching)
            decided = partial(has_decided, found, processes)
            assert poll(decided, seconds=PATIENCE_SECONDS), found.ask("up")
            if all(each.poll() is None for each in processes):
                yield found
                return
    pytest.fail(f"a relay or its Prometheus ended {TRIES} times, each on other ports")


def has_decided(found: Watched, processes: Sequence[subprocess.Popen[Any]]) -> bool:
    """Whether both work, or one has ended: somebody else may have taken its port meanwhile."""
    return any(each.poll() is not None for each in processes) or bool(found.ask("outbox_lanes_owned == 64"))


@contextmanager
def outage(dsn: str) -> Iterator[None]:
    """End the connections to a database, and take no new ones until the end of the block."""
    name = str(conninfo_to_dict(dsn)["dbname"])
    allow = sql.SQL("alter database {} with allow_connections {}")
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as connection:
        connection.execute(allow.format(sql.Identifier(name), sql.Literal(False)))
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        try:
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(name), sql.Literal(True)))


def test_a_real_prometheus_sees_all_that_is_asked_and_an_alert_that_comes_and_goes(
    watched: Watched, database: str
) -> None:
    """One relay, one Prometheus, one outage of the database: starting them is what takes the time."""
    exposed = exposed_by(watched.relay_url)
    named = {metric for rule in (*rules("alerts.yml"), *rules("recording.yml")) for metric in metrics_in(rule["expr"])}
    named |= {metric for query in queries() for metric in metrics_in(query)}
    assert named - exposed == set()
    assert {name for name in metric_names() if name not in exposed and f"{name}_count" not in exposed} == set()

    unanswered = set(queries())

    def all_answered() -> bool:
        unanswered.difference_update([query for query in unanswered if watched.ask(query)])
        return not unanswered

    assert poll(all_answered, seconds=PATIENCE_SECONDS), f"no series answers {sorted(unanswered)}"
    recorded = {rule["record"] for rule in rules("recording.yml")}
    assert poll(lambda: all(watched.ask(name) for name in recorded), seconds=PATIENCE_SECONDS)
    evaluated = watched.rules()
    assert {rule["health"] for rule in evaluated} == {"ok"}, [rule for rule in evaluated if rule["health"] != "ok"]
    assert len(evaluated) == len(recorded) + len(rules("alerts.yml"))
    assert watched.firing("OutboxDatabaseAway") == []

    with outage(database):
        assert poll(lambda: bool(watched.firing("OutboxDatabaseAway")), seconds=PATIENCE_SECONDS)
        [alert] = watched.firing("OutboxDatabaseAway")
        assert alert["labels"]["severity"] == "page"
        assert alert["annotations"]["runbook_url"] == "deploy/RUNBOOK.md#outboxdatabaseaway"
        assert watched.ask("outbox_lanes_owned")[0]["value"][1] == "0"

    assert poll(lambda: not watched.firing("OutboxDatabaseAway"), seconds=PATIENCE_SECONDS)
    assert poll(lambda: bool(watched.ask("outbox_lanes_owned == 64")), seconds=PATIENCE_SECONDS)


def exposed_by(url: str) -> set[str]:
    """The names of all series of a relay's /metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:  # noqa: S310 (our own port)
        return set(re.findall(r"^(outbox_[a-z_]+)", response.read().decode(), re.MULTILINE))
