"""Batch requests: several calls in one POST to `/` (Meta: Batch Requests)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import orjson

from publisher.sandbox import answers
from publisher.sandbox.hosts import Site, relocate
from publisher.sandbox.parameters import Parameters

PARTS_MAX: Final = 50
_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "PATCH")


@dataclass(frozen=True, slots=True)
class Part:
    """One call of a batch."""

    method: str
    path: str
    own: dict[str, str]

    def locate(self, outer: Site) -> Site:
        """Return its site: the batch's, with a path of its own."""
        return relocate(outer, self.path)

    @property
    def token(self) -> str | None:
        """The token that it brings."""
        return self.own.get("access_token")

    def parameters(self, outer: Parameters) -> Parameters:
        """Return its parameters; token and proof are the batch's where it has no token of its own."""
        if self.token:
            return Parameters(dict(self.own), self.token)
        proofs = {name: outer.values[name] for name in ("appsecret_proof", "appsecret_time") if name in outer.values}
        return Parameters(proofs | self.own, outer.token)


def read(parameters: Parameters) -> list[Part]:
    """Return the calls of a batch.

    Raises:
        GraphError: 100, it is no list of 1 to 50 calls.
    """
    try:
        rows = orjson.loads(parameters.values["batch"])
    except orjson.JSONDecodeError as malformed:
        raise answers.invalid_parameter("param batch must be an array.") from malformed
    if not isinstance(rows, list) or not rows:
        raise answers.invalid_parameter("param batch must be an array.")
    if len(rows) > PARTS_MAX:
        raise answers.invalid_parameter(f"Too many requests in batch message. Maximum batch size is {PARTS_MAX}")
    return [_part(row) for row in rows]


def row(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the answer of one call as the batch's answer holds it: the body is text."""
    shown = [{"name": name, "value": value} for name, value in headers.items()]
    return {"code": status, "headers": shown, "body": body.decode()}


def _part(row: object) -> Part:
    if not isinstance(row, dict):
        raise answers.invalid_parameter("param batch must hold objects.")
    method, address, body = row.get("method", "GET"), row.get("relative_url"), row.get("body", "")
    if method not in _METHODS or not isinstance(address, str) or not isinstance(body, str):
        raise answers.invalid_parameter("A call of a batch needs a method and a relative_url")
    try:
        parts = urlsplit(address if "://" in address else f"/{address.lstrip('/')}")
    except ValueError as malformed:
        raise answers.invalid_parameter("A call of a batch needs a method and a relative_url") from malformed
    own = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(parse_qsl(body, keep_blank_values=True))
    return Part(method, parts.path, own)
