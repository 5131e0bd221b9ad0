"""What all settings have in common: read once, from the environment, and refused in one sentence."""

from __future__ import annotations

import os
from typing import Any, Self, TypeVar

import pydantic_settings
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from outbox.errors import OutboxError

_Settings = TypeVar("_Settings", bound=BaseSettings)

_TESTS_PREFIX = "OUTBOX_TEST_"
"""Variables of the test suite: no settings of ours."""


class SettingsError(OutboxError):
    """A setting is unknown, missing or out of bounds."""


class Settings(BaseSettings):
    """Base of the settings of a package; each subclass sets its `env_prefix`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def load(cls) -> Self:
        """Read the settings from the environment. Raises SettingsError."""
        return load(cls)


def load(settings: type[_Settings], **given: Any) -> _Settings:
    """Read settings from the environment; what is given goes before it.

    Raises:
        SettingsError: A variable with their prefix that they don't know, or a value that doesn't fit; one sentence
            with the variable's name, never with its value.
    """
    if settings.model_config.get("extra") == "forbid":
        refuse_unknown(settings)
    try:
        return settings(**given)
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
    prefix = settings.model_config["env_prefix"].upper()
    for name in sorted(os.environ):
        if name.upper().startswith(prefix) and name.upper() not in known and not name.startswith(_TESTS_PREFIX):
            raise SettingsError(f"{name} is not a setting: expected one of {', '.join(sorted(known))}")


def variable(settings: type[BaseSettings], field: str) -> str:
    """Return the environment variable of a field."""
    info = settings.model_fields.get(field)
    if info is None:
        return field.upper()  # pydantic names a field with an alias by that
    alias = info.validation_alias
    return (alias if isinstance(alias, str) else f"{settings.model_config['env_prefix']}{field}").upper()


def _sentence(settings: type[BaseSettings], error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if not first["loc"]:
        return f"{settings.__name__}: {first['msg']}"
    field = str(first["loc"][0])
    name = variable(settings, field)
    if first["type"] == "missing":
        return f"{name} is not set: {settings.model_fields[field].description}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}"
