"""What all our settings have in common: read once, from the environment, and refused in one sentence."""

from __future__ import annotations

import os
from typing import Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from outbox.errors import OutboxError


class SettingsError(OutboxError):
    """A setting is unknown, missing or out of bounds."""


class Settings(BaseSettings):
    """Base of the settings of a package; each subclass sets its `env_prefix`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def load(cls) -> Self:
        """Read the settings from the environment.

        Raises:
            SettingsError: A variable with our prefix that we don't know, or a value that doesn't fit; one sentence
                with the variable's name, never with its value.
        """
        cls._refuse_unknown()
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = cls._variable(str(first["loc"][0])) if first["loc"] else cls.__name__
            if first["type"] == "missing":
                raise SettingsError(f"{name} is not set: {cls._purpose(str(first['loc'][0]))}") from None
            message = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"{name}: {message[0].lower()}{message[1:]}") from None

    @classmethod
    def _refuse_unknown(cls) -> None:
        prefix = cls.model_config["env_prefix"].upper()
        known = {cls._variable(name) for name in cls.model_fields}
        for name in sorted(os.environ):
            if name.startswith(prefix) and name not in known and not name.startswith("OUTBOX_TEST_"):
                raise SettingsError(f"{name} is not a setting: expected one of {', '.join(sorted(known))}")

    @classmethod
    def _variable(cls, field: str) -> str:
        info = cls.model_fields.get(field)
        alias = info.validation_alias if info is not None else None
        return alias if isinstance(alias, str) else f"{cls.model_config['env_prefix']}{field}".upper()

    @classmethod
    def _purpose(cls, field: str) -> str:
        info = cls.model_fields.get(field)
        return info.description if info is not None and info.description else "it has no default"
