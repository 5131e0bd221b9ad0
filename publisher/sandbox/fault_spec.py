"""A fault as it is scripted: whom it hits, and what it does."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from publisher.sandbox.endpoints import Endpoint

Action = Literal[
    "error", "apply_then_error", "apply_then_drop", "drop", "delay", "pause_before", "pause_after", "fail_media"
]


class UsageFigures(BaseModel):
    """What to put in the usage headers: whole percentages, and minutes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    call_count: int | None = Field(default=None, ge=0)
    total_cputime: int | None = Field(default=None, ge=0)
    total_time: int | None = Field(default=None, ge=0)
    estimated_time_to_regain_access: int | None = Field(default=None, ge=0)

    def figures(self) -> dict[str, int]:
        """Return the ones that are given."""
        return self.model_dump(exclude_none=True)


class FaultSpec(BaseModel):
    """A fault as it is scripted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: Endpoint
    account: str | None = Field(default=None, description="Only calls of this account.")
    media: str | None = Field(default=None, description="Only calls about media, a link or a text that contains this.")
    skip: int = Field(default=0, ge=0, description="How many matching calls pass first.")
    times: int | None = Field(default=1, ge=1, description="How many calls it hits; null: every one.")
    action: Action = "error"
    status: int | None = Field(default=None, ge=200, le=599)
    code: int | None = None
    subcode: int | None = None
    message: str | None = None
    type: str | None = None
    is_transient: bool | None = None
    body: str | None = Field(default=None, description="Answer this text instead of JSON.")
    delay_seconds: float = Field(default=0, ge=0, le=600, description="Real seconds, whatever the clock says.")
    usage: UsageFigures | None = Field(default=None, description="For X-Business-Use-Case-Usage.")
    app_usage: UsageFigures | None = Field(default=None, description="For X-App-Usage.")
