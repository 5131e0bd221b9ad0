"""Where Graph is, how long its calls may take, and how patient the publisher is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from outbox.settings import Settings

Seconds = Annotated[float, Field(gt=0, le=86_400)]


INSTAGRAM_URL = "https://graph.instagram.com"


class ProofForm(StrEnum):
    """How `appsecret_proof` is computed (Meta: Securing Graph API Requests)."""

    OFF = "off"
    UNTIMED = "untimed"
    TIMED = "timed"


class PublisherSettings(Settings):
    """Each field is an environment variable, `PUBLISHER_GRAPH_URL` for one; two have names of their own."""

    model_config = SettingsConfigDict(env_prefix="PUBLISHER_", validate_by_name=True)

    graph_url: str = Field(
        default="https://graph.facebook.com", pattern=r"^https?://[^/?#]+$", description="Scheme and host, no path."
    )
    instagram_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^?#]+$",
        description="Where tokens of Instagram Login go; https://graph.instagram.com, or graph_url where that is set.",
    )
    graph_version: str = Field(default="v25.0", pattern=r"^v[0-9]+\.[0-9]+$", description="The Graph API version.")
    app_id: str | None = Field(
        default=None, pattern=r"^[0-9]+$", description="The app's id; with app_secret it lets tokens be inspected."
    )
    app_secret: SecretStr | None = Field(
        default=None, description="Signs the calls of Facebook tokens with appsecret_proof when set."
    )
    proof: ProofForm = Field(default=ProofForm.UNTIMED, description="The form of the proof; needs app_secret.")

    read_seconds: Seconds = Field(default=10, description="How long a read may take.")
    create_seconds: Seconds = Field(default=45, description="How long creating may take: Meta fetches images then.")
    upload_seconds: Seconds = Field(
        default=60, description="How long sending a video's bytes may take at once; it is resumed where it stood."
    )
    publish_seconds: Seconds = Field(
        default=8, description="How long an irreversible call may take; an intent needs a lease that outlives it."
    )

    intent_seconds: Seconds = Field(
        default=1, description="How long writing an intent may take; when it takes longer the call is not made."
    )

    calls_max: int = Field(
        default=64, ge=1, description="Calls to Graph in flight; irreversible ones don't wait, and come on top."
    )
    circuit_failures: int = Field(
        default=10, ge=1, description="Failures in half a minute, without an answer between them, that open a circuit."
    )
    circuit_seconds: tuple[float, float] = Field(
        default=(5, 60), description="First and longest pause of an open circuit before one call probes; doubling."
    )
    outage_seconds: tuple[float, float] = Field(
        default=(2, 300), description="First and longest wait after Meta failed by itself; doubling, with jitter."
    )
    slow_seconds: tuple[float, float] = Field(
        default=(2, 30), description="Pause between the turns of an account at 75 % of a limit, and just below 90 %."
    )

    token_keys: SecretStr | None = Field(
        default=None, description="Fernet keys, comma separated: the first encrypts, all decrypt."
    )
    token_keys_file: Path | None = Field(default=None, description="A file with the keys, instead of token_keys.")

    check_media: bool = Field(
        default=True, description="Fetch and measure media before anything costs quota; false leaves it to Meta."
    )
    private_media: bool = Field(
        default=False, description="Media may be http, or on private and loopback addresses: for staging only."
    )
    media_seconds: Seconds = Field(
        default=20, description="How long a look at one medium may take; where we send its bytes, its host's silence."
    )

    image_poll_seconds: tuple[float, float] = Field(
        default=(1, 15), description="First and longest wait for an image container; doubling."
    )
    video_poll_seconds: tuple[float, float] = Field(
        default=(5, 60), description="First and longest wait for a video; doubling."
    )
    processing_seconds_max: Seconds = Field(
        default=900, description="Processing that takes longer has failed, and an upload that only drips for so long."
    )
    unreadable_seconds: Seconds = Field(
        default=60, description="A container whose status can't be read for so long is published all the same."
    )
    refused_wait_seconds: tuple[float, float] = Field(
        default=(5, 60),
        description="First and longest wait after Meta says that media is not ready, or an intent was late; doubling.",
    )
    limit_seconds: Seconds = Field(
        default=3_600, description="How long an account pauses after a limit whose end Graph does not name."
    )
    handle_age_seconds_max: Seconds = Field(
        default=82_800, description="Containers and unpublished photos older than this are made again; Meta: 24 h."
    )
    new_containers_max: int = Field(default=3, ge=0, description="Failed containers that are replaced, an event.")
    absences_max: int = Field(
        default=3, ge=1, description="Calls of an event that vanish without a trace before it is dead."
    )
    reconcile_seconds: Seconds = Field(
        default=60, description="A second look that finds nothing counts when it is this long after the intent."
    )
    list_lag_seconds: Seconds = Field(
        default=900,
        description="The same for a Page's photo stories and texts, of which a list that may lag is all that tells.",
    )
    reconcile_seconds_max: Seconds = Field(default=900, description="The longest wait between looks.")
    gone_seconds: Seconds = Field(
        default=900,
        description="A handle that could not be read for so long waits for a person where no post fits after the call; "
        "before it a Page's video is made once more.",
    )

    variant_retry_delay_seconds: Seconds = Field(
        default=45,
        validation_alias="VARIANT_RETRY_DELAY_SECONDS",
        description="First wait for a variant that is not visible; doubling, with jitter.",
    )
    max_variant_retries: int = Field(
        default=3, ge=0, validation_alias="MAX_VARIANT_RETRIES", description="Waits for it before the event is dead."
    )

    def instagram_base(self) -> str:
        """Return where tokens of Instagram Login go: a sandbox that is `graph_url` serves both hosts."""
        if self.instagram_url is not None:
            return self.instagram_url.rstrip("/")
        is_meta = self.graph_url == type(self).model_fields["graph_url"].default
        return INSTAGRAM_URL if is_meta else self.graph_url

    @field_validator(
        "image_poll_seconds",
        "video_poll_seconds",
        "refused_wait_seconds",
        "circuit_seconds",
        "outage_seconds",
        "slow_seconds",
    )
    @classmethod
    def _grows(cls, value: tuple[float, float]) -> tuple[float, float]:
        first, longest = value
        if not 0 < first <= longest:
            raise ValueError(f"expected [first, longest] with 0 < first <= longest, found [{first:g}, {longest:g}]")
        return value
