"""The image is built and the whole of compose.yaml runs, where Docker does: a story is published through it."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from publisher.tokens import generate_key
from tests import images
from tests.deploy.files import DEPLOY, read_yaml
from tests.postgres import docker_has
from tests.processes import ROOT, poll
from tests.publisher.stage import picture

COMPOSE: Final = DEPLOY / "compose.yaml"
IMAGE: Final = "outbox-relay:test"
BASE: Final = "python:3.12-slim"
SECONDS: Final = 600
GRANTED: Final = """
select m.member::regrole || ' ' || m.roleid::regrole from pg_auth_members as m
where m.member in ('relay'::regrole, 'operator'::regrole) order by 1
"""
CONNECTED: Final = "select distinct usename from pg_stat_activity where application_name like 'outbox-%'"

STAND_INS: Final[Mapping[str, tuple[str, Callable[[], None]]]] = {
    BASE: (images.PYTHON, images.make_python),
    "postgres:18": (images.POSTGRES, images.make_postgres),
    "prom/prometheus:v3.5.0": (images.PROMETHEUS, images.make_prometheus),
}


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs of compose.yaml, for one run of the tests."""

    program: Sequence[str]

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """A command of Compose's, which must succeed; returns what it printed."""
        return run(*self.program, *arguments, stdin=stdin)

    def outbox(self, *arguments: str, stdin: str = "", statuses: Sequence[int] = (0,)) -> list[dict[str, Any]]:
        """A command of the person on call, as JSON."""
        command = (*self.program, "run", "--rm", "-T", "outbox", *arguments, "--json")
        said = run(*command, stdin=stdin, statuses=statuses)
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def psql(self, statement: str) -> str:
        """One statement of the application's."""
        [server] = self.containers("postgres")
        return run("docker", "exec", server, "psql", "-U", "postgres", "-qAt", "-c", statement, "outbox").strip()

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, stopped ones too."""
        return sorted(run("docker", "ps", "-aq", *self._labels(service)).split())

    def _labels(self, service: str) -> list[str]:
        project = self.program[self.program.index("--project-name") + 1]
        labels = {"com.docker.compose.project": project, "com.docker.compose.service": service}
        return [f"--filter=label={name}={value}" for name, value in labels.items()]

    def ask(self, service: str, port: int, path: str, posted: object = None) -> Any:
        """What a service answers over HTTP, as JSON."""
        address = self("port", service, str(port)).strip()
        data = None if posted is None else json.dumps(posted).encode()
        with urllib.request.urlopen(f"http://{address}{path}", data, timeout=30) as answer:
            return json.load(answer)


def run(*command: str | Path, stdin: str = "", statuses: Sequence[int] = (0,)) -> str:
    """A command that must succeed; returns what it printed."""
    answer = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert answer.returncode in statuses, f"{answer.stdout}{answer.stderr}"
    return answer.stdout


def answers(*command: str) -> bool:
    """Whether a command succeeds."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """Each image that deploy/ names: itself, where it is here or can be pulled, else one that is made in its place."""
    if shutil.which("docker") is None or not answers("docker", "info"):
        pytest.skip("no Docker daemon answers here; where one does, this builds the image and runs compose.yaml")
    chosen = {}
    for image, (stand_in, make) in STAND_INS.items():
        chosen[image] = image if docker_has(image) else stand_in
        if chosen[image] == stand_in and not images.has(stand_in):
            try:
                make()
            except RuntimeError as error:
                pytest.skip(f"{image} can't be pulled here, nor an image made in its place: {error}")
    return chosen


@pytest.fixture(scope="module")
def image(found: dict[str, str]) -> str:
    """deploy/Dockerfile, built."""
    base = f"--build-arg=PYTHON_IMAGE={found[BASE]}"
    run("docker", "build", "--quiet", "--network=host", base, "--tag", IMAGE, "--file", DEPLOY / "Dockerfile", ROOT)
    return IMAGE


def compose() -> list[str]:
    """The program: Compose 2, else Debian's 1.29."""
    if answers("docker", "compose", "version"):
        return ["docker", "compose"]
    if shutil.which("docker-compose") is None:
        pytest.skip("Compose is not on this machine: apt-get install docker-compose, or .ci/run, brings it")
    return ["docker-compose"]


def adapted(found: dict[str, str], media: Path) -> dict[str, Any]:
    """compose.yaml as it is, but for what a machine of tests may lack: its images, its ports, a host with media."""
    stack: dict[str, Any] = read_yaml(COMPOSE)
    del stack["name"], stack["services"]["grafana"]
    for service in stack["services"].values():
        service["image"] = IMAGE if service.pop("build", None) else found[service["image"]]
        service["ports"] = [re.sub(r":\d+:", "::", port) for port in service.get("ports", [])]
    stack["services"]["relay"]["environment"]["PUBLISHER_PRIVATE_MEDIA"] = "true"
    stack["services"]["media"] = {
        "image": found[BASE],
        "command": ["python3", "-m", "http.server", "--directory", "/media", "80"],
        "volumes": [f"{media}:/media:ro"],
        "stop_signal": "SIGKILL",
    }
    return stack


@pytest.fixture(scope="module")
def stack(found: dict[str, str], image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it at work; afterwards nothing is left, data neither."""
    assert image == IMAGE
    folder = tmp_path_factory.mktemp("compose")
    media = folder / "media"
    media.mkdir()
    (media / "story.jpg").write_bytes(picture())
    (folder / "compose.yaml").write_text(yaml.safe_dump(adapted(found, media)))
    (folder / "env").write_text(f"POSTGRES_PASSWORD={secrets.token_hex(8)}\nTOKEN_KEYS={generate_key()}\n")
    project = f"outbox-test-{secrets.token_hex(4)}"
    files = ["--file", f"{folder}/compose.yaml", "--project-directory", str(DEPLOY), "--env-file", f"{folder}/env"]
    stack = Stack([*compose(), *files, "--project-name", project])
    try:
        stack("up", "--detach")
        assert poll(lambda: healthy(stack), seconds=240), stack("logs", "--no-color")
        yield stack
    finally:
        stack("down", "--volumes", "--timeout", "45")


def healthy(stack: Stack) -> bool:
    """Both relays say so."""
    said = [inspect(each, "{{.State.Health.Status}}") for each in stack.containers("relay")]
    return said == ["healthy", "healthy"]


def inspect(container: str, what: str) -> str:
    """What Docker knows of a container."""
    return run("docker", "inspect", "--format", what, container).strip()


@pytest.fixture(scope="module")
def account(stack: Stack) -> str:
    """An account of the sandbox's, its token given to the relays by the person on call; the key."""
    made = stack.ask("sandbox", 8026, "/_sandbox/accounts", {"platform": "instagram", "name": "greenhouse"})
    named = ("--platform", "instagram", "--id", made["id"], "--name", "greenhouse")
    [added] = stack.outbox("accounts", "add", *named, stdin=made["token"])
    return str(added["key"])


def publish(stack: Stack, account: str) -> int:
    """Have the application create a story; its event's id once it is published."""
    stack.psql(f"select social.create_variant('{account}', 'http://media/story.jpg')")
    [event] = stack.outbox("events", "--limit", "1")
    ended = f"select outbox.status({event['id']})"
    assert poll(lambda: ",published," in stack.psql(ended), seconds=240), stack("logs", "--no-color", "relay")
    return int(event["id"])


def test_the_image_holds_what_runs_and_no_more(image: str) -> None:
    """Nobody, who can write nowhere, with no tool that installs or builds."""
    shell = ("docker", "run", "--rm", "--read-only", "--cap-drop=ALL", "--network=none", "--entrypoint=sh", image, "-c")
    assert run(*shell, "id -u; id -g").split() == ["10001", "10001"]
    assert run(*shell, "touch /opt/outbox-relay/x /tmp/x 2>/dev/null || echo no").strip() == "no"
    assert run(*shell, "ls /opt/outbox-relay/bin | grep -E '^(pip|hatch)' || echo none").strip() == "none"
    assert run("docker", "run", "--rm", "--network=none", image, "--version").startswith("outbox ")


def test_a_story_is_published_through_the_stack(stack: Stack, account: str) -> None:
    """From SQL to the sandbox, its media looked at by the image's own libraries; the person on call sees it."""
    event_id = publish(stack, account)
    [listed] = [each for each in stack.outbox("events") if each["id"] == event_id]
    assert listed["state"] == "published"
    assert stack.ask("sandbox", 8026, "/_sandbox/live")


def test_every_service_has_a_role_of_its_own(stack: Stack) -> None:
    """The relay decides nothing and reads no more than it needs; nobody works as the superuser."""
    granted = ["operator outbox_operator", "operator pg_read_all_stats", "relay outbox_relay"]
    assert stack.psql(GRANTED).splitlines() == granted
    assert stack.psql(CONNECTED).split() == ["relay"]
    [advised] = [each for each in stack.outbox("doctor", statuses=(0, 3)) if each["check"] == "role"]
    assert advised["level"] == "ok"


def test_prometheus_scrapes_both_relays_and_takes_every_rule(stack: Stack) -> None:
    """By the names that Compose gives; no alert is pending where all is well."""

    def targets() -> list[str]:
        found = stack.ask("prometheus", 9090, "/api/v1/targets")["data"]["activeTargets"]
        return [each["health"] for each in found]

    assert poll(lambda: targets() == ["up", "up"], seconds=240), targets()
    groups = stack.ask("prometheus", 9090, "/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 20
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []


def test_a_relay_that_is_stopped_leaves_its_lanes_to_the_other(stack: Stack, account: str) -> None:
    """In order, within what Compose gives it; stories go on, and it joins again."""
    first, second = stack.containers("relay")
    run("docker", "stop", "--time=45", first)
    assert inspect(first, "{{.State.ExitCode}}") == "0"
    logged = subprocess.run(["docker", "logs", first], capture_output=True, text=True, check=True)
    assert "relay.stopped" in logged.stderr
    working = [each for each in stack.outbox("relays") if each["state"] == "working"]
    assert [each["lane_count"] for each in working] == [64]
    publish(stack, account)
    run("docker", "start", first)
    assert poll(lambda: healthy(stack), seconds=240), second


def test_all_of_it_stops_in_order(stack: Stack) -> None:
    """No container has to be killed."""
    stack("stop", "--timeout", "45")
    services = ("postgres", "relay", "sandbox", "prometheus")
    ended = {name: [inspect(each, "{{.State.ExitCode}}") for each in stack.containers(name)] for name in services}
    stack("up", "--detach")
    assert ended == {"postgres": ["0"], "relay": ["0", "0"], "sandbox": ["0"], "prometheus": ["0"]}
