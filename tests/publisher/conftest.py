"""The stage for tests that publish."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from publisher.sandbox.settings import SandboxSettings
from publisher.settings import PublisherSettings
from tests.publisher.stage import Stage, open_stage


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix, fields in (("PUBLISHER_", PublisherSettings.model_fields), ("SANDBOX_", SandboxSettings.model_fields)):
        for name in fields:
            monkeypatch.delenv(f"{prefix}{name.upper()}", raising=False)
    for name in ("VARIANT_RETRY_DELAY_SECONDS", "MAX_VARIANT_RETRIES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def stage(database: str) -> AsyncIterator[Stage]:
    """The real handler with a real database, the sandbox and a media server."""
    async with open_stage(database) as stage:
        yield stage
