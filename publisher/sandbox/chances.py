"""Random faults that can be repeated: which call meets what follows from a seed and the call's number. Pure.

Each endpoint counts its own calls, so that what one client does meanwhile moves nobody else's faults to another
endpoint.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from publisher.sandbox.endpoints import PUBLISHING, READING_OBJECTS, TAKING_IMAGES, TAKING_MEDIA, Endpoint

Probability = Annotated[float, Field(ge=0, le=1)]


class Mishap(StrEnum):
    """What can happen to a call, in the order in which the probabilities are added up."""

    REFUSED = "refused"
    LIMITED = "limited"
    DROPPED = "dropped"
    DENIED = "denied"
    LOST = "lost"
    DELAYED = "delayed"
    GARBLED = "garbled"
    UNREADY = "unready"
    UNREADABLE = "unreadable"
    UNREACHED = "unreached"
    SPOILED = "spoiled"


class Chances(BaseModel):
    """Probabilities, by what happens; a call that can't meet its mishap goes through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=1, ge=0)
    endpoints: tuple[Endpoint, ...] | None = Field(default=None, description="Only these; null: all.")
    refused: Probability = Field(default=0, description="A temporary error (1, 2, -1), and nothing is done.")
    limited: Probability = Field(default=0, description="A limit's error, and nothing is done.")
    dropped: Probability = Field(default=0, description="No answer, and nothing is done.")
    denied: Probability = Field(default=0, description="It is done, and an error says that it is not.")
    lost: Probability = Field(default=0, description="It is done, and no answer comes.")
    delayed: Probability = Field(default=0, description="It is done `delay_seconds` later.")
    garbled: Probability = Field(default=0, description="It is done, and a page of HTML is the answer.")
    unready: Probability = Field(default=0, description="9007/2207027 from a publish of a finished container.")
    unreadable: Probability = Field(default=0, description="100/33 from a read of an object that is there.")
    unreached: Probability = Field(default=0, description="Media that is there can't be fetched: 9004 or 324.")
    spoiled: Probability = Field(default=0, description="Media is taken, and fails while it is processed.")
    delay_seconds: float = Field(default=0.5, ge=0, le=600)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(getattr(self, mishap) for mishap in Mishap) > 1:
            raise ValueError("the probabilities of all mishaps add up to 1 at most")
        return self

    def draw(self, endpoint: Endpoint, number: int) -> tuple[Mishap | None, int]:
        """Return what happens to an endpoint's call of this number, and a further draw to choose among its kinds."""
        if self.endpoints is not None and endpoint not in self.endpoints:
            return None, 0
        digest = hashlib.blake2b(f"{self.seed}:{endpoint}:{number}".encode(), digest_size=16).digest()
        roll, further = int.from_bytes(digest[:8]) / 2**64, int.from_bytes(digest[8:])
        for mishap in Mishap:
            roll -= getattr(self, mishap)
            if roll < 0:
                return (mishap if endpoint in _MET_BY.get(mishap, _ALL) else None), further
        return None, further


_ALL: Final = frozenset(Endpoint)
_MET_BY: Final = {
    Mishap.UNREADY: frozenset({Endpoint.PUBLISH_CONTAINER}),
    Mishap.UNREADABLE: READING_OBJECTS,
    Mishap.UNREACHED: TAKING_IMAGES,
    Mishap.SPOILED: TAKING_MEDIA,
    Mishap.DENIED: PUBLISHING | TAKING_IMAGES,
}
