"""The README says what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from publisher.metrics import PublisherMetrics
from publisher.sandbox.settings import SandboxSettings
from publisher.settings import PublisherSettings
from relay.metrics import RelayMetrics
from relay.settings import RelaySettings

README = Path(__file__).parents[1] / "README.md"


def settings_table() -> str:
    """Return the table of all settings, as README.md holds it between its two marks."""
    lines = ["| variable | default | |", "|---|---|---|"]
    for settings in (RelaySettings, PublisherSettings, SandboxSettings):
        lines += [row(settings, name, field) for name, field in settings.model_fields.items()]
    return "\n".join(lines)


def row(settings: type[BaseSettings], name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    variable = alias if isinstance(alias, str) else f"{settings.model_config['env_prefix']}{name}".upper()
    default = "required" if field.is_required() else "" if field.default is None else f"`{shown(field.default)}`"
    description = (field.description or "").rstrip(".")
    if description[1:2].islower():
        description = description[0].lower() + description[1:]
    return f"| `{variable}` | {default} | {description} |"


def shown(default: object) -> str:
    if isinstance(default, tuple):
        return f"[{', '.join(map(shown, default))}]"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_the_settings_table_is_that_of_the_code() -> None:
    """Every variable is in README.md, with its default and what it does."""
    between = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", README.read_text(), re.DOTALL)
    assert between is not None
    assert between[1] == settings_table(), f"put this between the marks:\n{settings_table()}"


def metric_names() -> Iterator[str]:
    registry = CollectorRegistry()
    RelayMetrics(registry, ["t"])
    PublisherMetrics(registry)
    for family in registry.collect():
        yield f"{family.name}_total" if family.type == "counter" else family.name


@pytest.mark.parametrize("name", list(metric_names()))
def test_every_metric_is_named(name: str) -> None:
    """A metric that the README does not know is one that nobody watches."""
    assert re.search(rf"`{name}[`{{]", README.read_text())


def test_files_that_the_readme_points_at_exist() -> None:
    """Links and the table of promises name real files."""
    text = README.read_text()
    named = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`(tests/[a-z_/.]+)(?:::\w+)?`", text)
    assert named
    assert [name for name in named if not (README.parent / name).exists()] == []


def promises() -> list[str]:
    """Return the rows of the table of promises."""
    between = re.search(r"^## What is promised\n(.*?)^## ", README.read_text(), re.DOTALL | re.MULTILINE)
    assert between is not None
    return [line for line in between[1].splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("promise", promises())
def test_every_promise_names_its_tests(promise: str) -> None:
    """A file of them, or one by its name: what pytest can be called with."""
    shown_by = promise.rstrip(" |").rpartition("|")[2]
    tests = re.findall(r"`(tests/[a-z_/]+/test_[a-z_]+\.py)(?:::(\w+))?`", shown_by)
    assert tests
    assert shown_by.count("`") == 2 * len(tests)
    for file, test in tests:
        assert re.search(rf"^(?:async )?def {test or 'test_'}", (README.parent / file).read_text(), re.MULTILINE), test
