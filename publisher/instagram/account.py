"""An Instagram professional account: who publishes, and through what."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from publisher.graph import GraphClient


@dataclass(frozen=True, slots=True)
class InstagramAccount:
    """Who publishes, and through what."""

    graph: GraphClient
    id: str
    token: SecretStr
