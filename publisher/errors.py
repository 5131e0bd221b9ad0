"""The errors of the publisher: a class for each decision that its callers take."""

from __future__ import annotations

import re

from outbox.errors import OutboxError
from outbox.event import JsonObject

MESSAGE_LENGTH_MAX = 300
_URL = re.compile(r"https?://\S+", re.IGNORECASE)
_TOKEN = re.compile(r"\b(?:EAA|IGAA|IGQ)[\w-]{8,}")


class PublisherError(OutboxError):
    """Root of all errors that this package raises; its message is one sentence without a secret."""


class TokenUnreadable(PublisherError):
    """An access token can't be decrypted: another key encrypted it, or it was damaged."""


class VariantUnreadable(PublisherError):
    """A variant is there, and its media have another shape than the publisher reads."""


class SettingsUnsuitable(PublisherError):
    """The publisher can't start with these settings."""


class AccountInvalid(PublisherError):
    """An account can't be added as it was given."""


class GraphError(PublisherError):
    """Graph answered, and its answer is an error.

    Attributes:
        endpoint: The closed name of the call.
        code: `error.code`; may be negative.
        subcode: `error.error_subcode`.
        status: The HTTP status, which says next to nothing.
        fbtrace_id: For Meta's support.
        regain_seconds: How long the usage headers say that the limit lasts; None where they say nothing.
        is_transient: What Graph says of itself; unreliable, kept for people.
        resume_at: Where an upload stands, for an error that says that it was sent from elsewhere.
    """

    def __init__(
        self,
        endpoint: str,
        message: str,
        *,
        code: int,
        subcode: int | None = None,
        status: int = 400,
        fbtrace_id: str | None = None,
        regain_seconds: float | None = None,
        is_transient: bool | None = None,
        resume_at: int | None = None,
    ) -> None:
        number = f"{code}/{subcode}" if subcode is not None else f"{code}"
        super().__init__(f"Graph answered {endpoint} with error {number}: {redacted(message)}")
        self.endpoint = endpoint
        self.code = code
        self.subcode = subcode
        self.status = status
        self.fbtrace_id = fbtrace_id
        self.regain_seconds = regain_seconds
        self.is_transient = is_transient
        self.resume_at = resume_at

    @property
    def is_missing(self) -> bool:
        """The object does not exist for this token, or can't be read just now: Graph says the same of both."""
        return (self.code, self.subcode) == (100, 33)


class NoAnswer(PublisherError):
    """No definite answer came: a time-out, a reset, HTML, a bare 5xx. The call may have gone through."""


class Unfinished(NoAnswer):
    """The time for one go was over while bytes still went through: of the host it says nothing, the rest is left."""


class NotSent(NoAnswer):
    """The connection could not be made: nothing went through."""


class TooLate(NotSent):
    """Its intent became durable so late that the call was not made; that is nobody's fault, and costs no attempt."""


class CircuitOpen(NotSent):
    """Its host answers nobody just now: the call was not made, and costs no attempt.

    Attributes:
        wait_seconds: When to try again.
    """

    def __init__(self, message: str, wait_seconds: float) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class MediaUnreachable(PublisherError):
    """A medium could not be read: nothing is known of it.

    Attributes:
        is_refusal: The host answered, and said no; else it was slow, or had trouble of its own.
        context: What to keep of it; never the URL.
    """

    def __init__(self, message: str, *, is_refusal: bool, context: JsonObject | None = None) -> None:
        super().__init__(message)
        self.is_refusal = is_refusal
        self.context = context


class MediaBusy(PublisherError):
    """A medium was not read: others of its host are, and take long. That is nobody's fault, and costs no attempt.

    Attributes:
        wait_seconds: When to try again.
    """

    def __init__(self, message: str, wait_seconds: float) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class MediaUnsuitable(PublisherError):
    """A medium breaks a rule of Meta's.

    Attributes:
        context: The rule, what was found, and the source.
    """

    def __init__(self, message: str, context: JsonObject) -> None:
        super().__init__(message)
        self.context = context


def redacted(message: str) -> str:
    """Return Meta's message without the URLs and tokens that it may quote, and of bounded length."""
    return _TOKEN.sub("<token>", _URL.sub("<url>", message))[:MESSAGE_LENGTH_MAX]
