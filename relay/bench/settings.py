"""What the benchmarks read from the environment: where to measure, and nothing else."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from outbox.settings import Settings


class BenchSettings(Settings):
    """Where to measure. A relay under measurement is set in code alone, whatever the environment holds for others."""

    # The variables that it does not know are for `RelaySettings`.
    model_config = SettingsConfigDict(env_prefix="OUTBOX_", extra="ignore")

    dsn: SecretStr | None = Field(None, description="the server to measure; without it, an embedded PostgreSQL")
