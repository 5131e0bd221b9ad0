"""What all settings have in common: read once, from the environment, and refused in one sentence.

A secret may come from a file instead: OUTBOX_DSN_FILE=/run/secrets/dsn stands for OUTBOX_DSN, and so for each of them.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

import annotated_types
import pydantic_settings
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from outbox.errors import OutboxError

_Settings = TypeVar("_Settings", bound=BaseSettings)

FILE_SUFFIX = "_FILE"
"""Appended to the variable of a secret: names a file that holds it."""

_TESTS_PREFIX = "OUTBOX_TEST_"
"""Variables of the test suite: no settings of ours."""


class SettingsError(OutboxError):
    """A setting is unknown, missing or out of bounds."""


class Settings(BaseSettings):
    """Base of the settings of a package; each subclass sets its `env_prefix`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True)

    @classmethod
    def load(cls) -> Self:
        """Read the settings from the environment. Raises SettingsError."""
        return load(cls)


def load(settings: type[_Settings], **given: Any) -> _Settings:
    """Read settings from the environment, secrets from files too; what is given goes before it.

    Raises:
        SettingsError: A variable with their prefix that they don't know, or a value that doesn't fit; one sentence
            with the variable's name, never with its value.
    """
    if settings.model_config.get("extra") == "forbid":
        refuse_unknown(settings)
    files = {name: _read_secret(settings, name) for name in _secrets_in_files(settings)}
    try:
        return settings(**{**files, **given})
    except ValidationError as error:
        raise SettingsError(_sentence(settings, error)) from None
    except pydantic_settings.SettingsError as error:
        raise SettingsError(f"expected JSON such as [1, 15] in a setting, found: {error}") from None


def refuse_unknown(settings: type[BaseSettings]) -> None:
    """Refuse variables with the prefix of these settings that they don't know.

    Raises:
        SettingsError: There is one.
    """
    known = {variable(settings, field) for field in settings.model_fields}
    known |= {variable(settings, field) + FILE_SUFFIX for field in settings.model_fields if is_secret(settings, field)}
    prefix = settings.model_config["env_prefix"].upper()
    for name in sorted(os.environ):
        if name.upper().startswith(prefix) and name.upper() not in known and not name.startswith(_TESTS_PREFIX):
            close = get_close_matches(name.upper(), known, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise SettingsError(f"{name} is not a setting: expected one of {', '.join(sorted(known))}{meant}")


def variable(settings: type[BaseSettings], field: str) -> str:
    """Return the environment variable of a field."""
    info = settings.model_fields.get(field)
    if info is None:
        return field.upper()  # pydantic names a field with an alias by that
    alias = info.validation_alias
    return (alias if isinstance(alias, str) else f"{settings.model_config['env_prefix']}{field}").upper()


def is_secret(settings: type[BaseSettings], field: str) -> bool:
    """Tell whether a field is a secret: it may come from a file, and is never shown."""
    annotation = settings.model_fields[field].annotation
    return annotation is SecretStr or SecretStr in get_args(annotation)


def source(settings: type[BaseSettings], field: str) -> str:
    """Tell where a field's value comes from: the environment, a file, or nowhere, so that it has its default."""
    name = variable(settings, field)
    if _environment(name) is not None:
        return "environment"
    path = _environment(name + FILE_SUFFIX) if is_secret(settings, field) else None
    return "default" if path is None else f"file {path}"


def allowed(info: FieldInfo) -> str | None:
    """Say which values a field takes, where they are a list or a range."""
    if get_origin(info.annotation) is Literal:
        return ", ".join(map(str, get_args(info.annotation)))
    bounds: dict[str, Any] = {}
    for each in info.metadata:
        match each:
            case annotated_types.Ge(ge=low):
                bounds["least"] = f"{low:g}"
            case annotated_types.Gt(gt=low):
                bounds["least"] = f"more than {low:g}"
            case annotated_types.Le(le=high):
                bounds["most"] = f"{high:g}"
            case _:
                pass
    match bounds:
        case {"least": least, "most": most}:
            return f"{least} to {most}"
        case {"least": least}:
            return f"{least} at least" if not least.startswith("more") else str(least)
        case _:
            return None


def _secrets_in_files(settings: type[BaseSettings]) -> list[str]:
    """The secret fields that the environment says are in files; those that have a field for it read it themselves."""
    return [
        field
        for field in settings.model_fields
        if is_secret(settings, field)
        and f"{field}_file" not in settings.model_fields
        and _environment(variable(settings, field) + FILE_SUFFIX) is not None
    ]


def _read_secret(settings: type[BaseSettings], field: str) -> str:
    name = variable(settings, field)
    path = _environment(name + FILE_SUFFIX)
    assert path is not None
    if _environment(name) is not None:
        raise SettingsError(f"expected {name} or {name}{FILE_SUFFIX}, found both; keep one")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{name}{FILE_SUFFIX}: expected a file with the value at {path}, found: {reason}") from None


def _environment(name: str) -> str | None:
    """A variable's value; its name in any case, as pydantic reads it, and an empty one is not set."""
    return next((value for given, value in os.environ.items() if given.upper() == name and value), None)


def _sentence(settings: type[BaseSettings], error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if not first["loc"]:
        return f"{settings.__name__}: {first['msg']}"
    field = str(first["loc"][0])
    name = variable(settings, field)
    if first["type"] == "missing":
        return f"{name} is not set: {settings.model_fields[field].description}"
    message = first["msg"].removeprefix("Value error, ")
    values = allowed(settings.model_fields[field]) if field in settings.model_fields else None
    sentence = f"{name}: {message[:1].lower()}{message[1:]}"
    return sentence if values is None else f"{sentence}; allowed: {values}"
