"""The relay's settings, from environment variables that begin with OUTBOX_."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from outbox.settings import Settings


class DatabaseSettings(Settings):
    """Where the database is: all that the commands for people need."""

    # The variables that it does not know are for `RelaySettings`, which refuses what neither knows.
    model_config = SettingsConfigDict(env_prefix="OUTBOX_", extra="ignore")

    dsn: SecretStr = Field(
        description="expected a PostgreSQL connection string such as postgresql://user@host/database"
    )
    listen_dsn: SecretStr | None = Field(
        None, description="where to listen for the bell, past the pooler that OUTBOX_DSN leads to; default: OUTBOX_DSN"
    )

    @property
    def listener_dsn(self) -> SecretStr:
        """Where the doorbell listens."""
        return self.listen_dsn or self.dsn


class RelaySettings(DatabaseSettings):
    """How a relay runs. Seconds are seconds; counts bound memory and concurrency."""

    model_config = SettingsConfigDict(extra="forbid")

    metrics_host: str = Field("127.0.0.1", description="where /metrics, /healthz and /readyz listen")
    metrics_port: int = Field(9464, ge=0, le=65535, description="their port; 0 takes a free one")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least level that is logged"
    )

    traces: Literal["off", "otlp"] = Field(
        "off", description="otlp: send OpenTelemetry spans, as the OTEL_* variables say; needs the extra otel"
    )

    concurrency: int = Field(64, ge=1, le=1000, description="handlers that run at once")
    pool_size_max: int = Field(8, ge=1, le=100, description="database connections for handlers")
    in_hand_max: int = Field(
        10_000, ge=1, description="events read and not settled; reading pauses at it, but for hot keys"
    )
    slice_count: int = Field(1000, ge=1, le=10_000, description="events fetched at once")

    lease_seconds: float = Field(15, ge=1, le=300, description="lanes of a relay that died are free after this")
    poll_seconds: float = Field(5, ge=0.05, le=60, description="a look at the log without the bell")
    poll_unlistened_seconds: float = Field(
        0.25, ge=0.01, le=60, description="the same while LISTEN is not connected, or hears late"
    )
    listen_check_seconds: float = Field(
        30, ge=0.5, le=600, description="how often the listener notifies itself, to see whether it hears"
    )
    cursor_seconds: float = Field(5, ge=0.1, le=60, description="how often cursors are saved")
    gauge_seconds: float = Field(15, ge=0.5, le=300, description="how often gauges are read from the database")
    retention_days: int = Field(30, ge=0, le=36_500, description="ended events are kept so long; 0 keeps them for ever")
    prune_seconds: float = Field(3600, ge=1, le=86_400, description="how often what ended longer ago is deleted")
    shutdown_seconds: float = Field(20, ge=0, le=600, description="what handlers get to finish in at a shutdown")
    handler_seconds: float = Field(120, gt=0, le=3600, description="a handler that takes longer is cancelled")

    mute_rings_per_second: float = Field(100, ge=1, description="above it the doorbell is muted and the relay polls")
    muted_poll_seconds: float = Field(
        0.01, ge=0.001, le=1, description="how often a relay looks while it is muted; 0.02 where looks find 100 events"
    )

    attempts_max: int = Field(
        24, ge=1, le=1000, description="tries of an event before it is dead: about two hours, as the backoff is"
    )
    crashes_max: int = Field(3, ge=2, le=100, description="relays that an event may kill before it is dead")
    backoff_base_seconds: float = Field(2, gt=0, le=3600, description="upper bound of the first retry's delay")
    backoff_cap_seconds: float = Field(900, gt=0, le=86400, description="upper bound of any retry's delay")
    short_deferral_seconds: float = Field(30, ge=0, le=300, description="shorter deferrals stay in memory")
    unknown_seconds: float = Field(60, gt=0, le=3600, description="when to reconcile after a handler broke off midway")

    @field_validator("retention_days")
    @classmethod
    def _outlives_a_story(cls, days: int) -> int:
        if days == 1:
            raise ValueError("expected 2 days at least, for stories are live for one, or 0 to keep events for ever")
        return days
