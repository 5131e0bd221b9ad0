"""How the parts of the demo are set: in code alone, whatever the environment holds for other relays."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from publisher.sandbox.settings import SandboxSettings
from publisher.settings import PublisherSettings
from relay.demo.script import STORIES_LAG_SECONDS
from relay.settings import RelaySettings

# An answer that is lost is believed to be lost only well after a story would have appeared.
RECONCILE_SECONDS = 2.0
assert RECONCILE_SECONDS > 2 * STORIES_LAG_SECONDS


class _SetInCode(BaseSettings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (pydantic passes these by name)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class _Relay(_SetInCode, RelaySettings):
    pass


class _Publisher(_SetInCode, PublisherSettings):
    pass


class _Sandbox(_SetInCode, SandboxSettings):
    pass


def relay_settings(dsn: str) -> RelaySettings:
    """Return a relay's settings with retries of less than two seconds, on a free port."""
    return _Relay.model_validate(
        {
            "dsn": dsn,
            "metrics_port": 0,
            "pool_size_max": 4,
            "poll_seconds": 1,
            "cursor_seconds": 1,
            "gauge_seconds": 1,
            "shutdown_seconds": 1,
            "attempts_max": 6,
            "backoff_base_seconds": 0.4,
            "backoff_cap_seconds": 1.5,
            "unknown_seconds": RECONCILE_SECONDS,
        }
    )


def publisher_settings(graph_url: str, token_key: str) -> PublisherSettings:
    """Return the publisher's settings with waits of seconds where the real ones are minutes."""
    return _Publisher(
        graph_url=graph_url,
        token_keys=SecretStr(token_key),
        private_media=True,
        read_seconds=5,
        create_seconds=10,
        publish_seconds=5,
        image_poll_seconds=(0.3, 1),
        video_poll_seconds=(0.5, 1.5),
        refused_wait_seconds=(0.8, 2),
        outage_seconds=(0.8, 2),
        reconcile_seconds=RECONCILE_SECONDS,
        list_lag_seconds=RECONCILE_SECONDS,
        reconcile_seconds_max=5,
        gone_seconds=20,
        limit_seconds=4,
        variant_retry_delay_seconds=1,
    )


def sandbox_settings() -> SandboxSettings:
    """Return a sandbox's settings: images take up to a second, videos up to three."""
    return _Sandbox(port=0, image_seconds=(0, 1), video_seconds=(1, 3), stories_lag_seconds=STORIES_LAG_SECONDS)
