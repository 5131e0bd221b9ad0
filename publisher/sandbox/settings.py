"""Where the sandbox listens and how it behaves where Meta's documents leave a choice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from publisher.sandbox.chances import Chances

Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Switches(BaseModel):
    """What can be changed while the sandbox runs (`PATCH /_sandbox/settings`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    republish: Literal["error", "same_id", "duplicate"] = Field(
        default="error",
        description="The answer to a second publish of one container, photo or video: Meta documents none.",
    )
    strict_formats: bool = Field(
        default=True,
        description="Refuse a story image that is not JPEG, as documented; PNG has been seen to pass.",
    )
    check_media: bool = Field(
        default=True, description="Fetch and decode the media of every call; false takes any URL as good."
    )
    quota_total: int = Field(
        default=100, ge=0, description="Publishes an account has in 24 hours; Meta says 50 and 100."
    )
    stories_count: bool = Field(default=True, description="Whether stories count against the quota: not documented.")
    container_limit: int = Field(default=400, ge=0, description="Containers that an account may create in 24 hours.")
    image_seconds: tuple[Seconds, Seconds] = Field(
        default=(0, 2), description="How long an image container takes, at least and at most."
    )
    video_seconds: tuple[Seconds, Seconds] = Field(
        default=(20, 180), description="How long a video takes, at least and at most."
    )
    stories_lag_seconds: Seconds = Field(
        default=0, description="How long a new story takes to appear in the list of stories."
    )
    feed_lag_seconds: Seconds = Field(
        default=0, description="How long anything else takes to appear in the lists of media and posts."
    )
    published_readable_seconds: Seconds | None = Field(
        default=None, description="How long a published container can be read; not set: for ever."
    )
    png_publishes: bool = Field(
        default=True, description="With strict_formats off: whether a PNG that became a container can be published."
    )
    carousel_items_lost: int = Field(
        default=0, ge=0, le=10, description="How many of its last items a carousel goes live without: seen once."
    )
    container_default_fields: Literal["status_code", "id"] = Field(
        default="status_code", description="What reading a container without fields answers, besides its id."
    )
    expired_text: str = Field(
        default="Expired: Media was not published within 24 hours.",
        max_length=200,
        description="The status text of an expired container: Meta prints none.",
    )
    page_story_seconds_max: Literal[60, 90] = Field(
        default=90, description="The longest video story of a Page: Meta says both."
    )
    reel_limit: int = Field(default=30, ge=0, description="Reels that a Page may publish in 24 hours.")
    media_timeout_seconds: float = Field(
        default=10, gt=0, le=300, description="How long a media server may take to deliver one file."
    )
    http_status_2207051: Literal[400, 403] = Field(
        default=403, description="HTTP status of 4/2207051: 400 is documented, 403 was observed."
    )
    http_status_190: Literal[400, 401] = Field(
        default=400, description="HTTP status of a token error: both were observed."
    )
    http_status_limits: Literal[400, 403, 429] = Field(
        default=400, description="HTTP status of 4, 17, 32, 613, 80001 and 80002: documented only as codes."
    )
    retry_after_seconds: int | None = Field(
        default=None, ge=0, le=86_400, description="Send Retry-After with those errors; Meta documents none."
    )
    page_usage_header: bool = Field(default=False, description="Send X-Page-Usage with a Page's calls.")
    chances: Chances | None = Field(
        default=None,
        description='Random faults: JSON such as {"seed": 7, "lost": 0.02, "denied": 0.02}; see publisher.sandbox',
    )
    require_proof: bool = Field(default=False, description="Refuse calls without an appsecret_proof; needs app_secret.")
    app_id: str = Field(default="645699291956344", pattern=r"^[0-9]{5,20}$")
    app_secret: SecretStr | None = Field(
        default=None, description="Set: a proof that is sent is checked, and the app token works."
    )
    app_usage_header: bool = Field(default=True, description="Send X-App-Usage on calls with an account's token too.")
    app_usage_percent: int = Field(
        default=0, ge=0, le=1_000, description="What X-App-Usage says of all its three figures."
    )
    story_archive: bool = Field(default=False, description="Whether Pages keep stories after 24 hours.")

    def app_usage(self) -> dict[str, int]:
        """Return the figures of X-App-Usage."""
        return dict.fromkeys(("call_count", "total_cputime", "total_time"), self.app_usage_percent)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("image_seconds", "video_seconds"):
            shortest, longest = getattr(self, name)
            if shortest > longest:
                raise ValueError(f"{name} is [at least, at most], found [{shortest:g}, {longest:g}]")
        if self.require_proof and self.app_secret is None:
            raise ValueError("require_proof needs app_secret to check the proof against")
        return self


class SandboxSettings(Switches, BaseSettings):
    """How a sandbox starts; each field is also an environment variable, `SANDBOX_PORT` for one."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_", extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8026, ge=0, le=65_535, description="The port to listen on; 0 takes a free one.")
    seed: int = Field(default=1, ge=0, description="Ids, tokens and processing times follow from it.")
    state: Path | None = Field(
        default=None, description="The file in which accounts and objects outlive a restart; not set: in memory."
    )
    requests_kept: int = Field(
        default=1_000, ge=0, le=100_000, description="How many calls `GET /_sandbox/requests` remembers."
    )

    def switches(self) -> Switches:
        """Return the part that can be changed while the sandbox runs."""
        return Switches.model_validate({name: getattr(self, name) for name in Switches.model_fields})
