"""Settings of packages that do not build on `outbox.settings`: the same strictness, the same sentences."""

from __future__ import annotations

import os
from typing import Any, TypeVar

import pydantic_settings
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from outbox.settings import SettingsError

_Settings = TypeVar("_Settings", bound=BaseSettings)


def load(settings: type[_Settings], **given: Any) -> _Settings:
    """Read settings from the environment; what is given goes before it.

    Raises:
        SettingsError: A variable with their prefix that they don't know, or a value that doesn't fit; one sentence
            with the variable's name, never with its value.
    """
    refuse_unknown(settings)
    try:
        return settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = _variable(settings, str(first["loc"][0])) if first["loc"] else settings.__name__
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}: {message[:1].lower()}{message[1:]}") from None
    except pydantic_settings.SettingsError as error:
        raise SettingsError(f"expected JSON such as [1, 15] in a setting, found: {error}") from None


def refuse_unknown(settings: type[BaseSettings]) -> None:
    """Refuse variables with the prefix of these settings that they don't know.

    Raises:
        SettingsError: There is one.
    """
    known = {_variable(settings, field) for field in settings.model_fields}
    prefix = settings.model_config["env_prefix"].upper()
    for name in sorted(os.environ):
        if name.upper().startswith(prefix) and name.upper() not in known:
            raise SettingsError(f"{name} is not a setting: expected one of {', '.join(sorted(known))}")


def _variable(settings: type[BaseSettings], field: str) -> str:
    info = settings.model_fields.get(field)
    if info is None:
        return field.upper()
    alias = info.validation_alias
    return (alias if isinstance(alias, str) else f"{settings.model_config['env_prefix']}{field}").upper()
