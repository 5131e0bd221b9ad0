"""What may be a secret, by its name or by how it looks, and how it is struck out: for logs and for the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

HIDDEN = "[redacted]"

_SECRETS = re.compile(
    r"""
    (?P<name>access_token|appsecret_proof|client_secret|app_secret|input_token|fb_exchange_token|password|token_keys)
    (?P<separator>["']?\s*[=:]\s*)(?:"[^"]*"|'[^']*'|[^\s"'&,}]+)
    | \b(?P<scheme>Bearer|OAuth)\s+[A-Za-z0-9_\-|.+/=~]{8,}
    | \b(?:EAA|IGAA|IGQ)[A-Za-z0-9_\-]{8,}
    | (?P<dsn>postgres(?:ql)?://[^:/@\s]*):\S*@
    | https?://\S+
    """,
    re.VERBOSE | re.IGNORECASE,
)

_SECRET_NAMES = re.compile(r"token|secret|password|proof|authorization|credential|caption|media_url|dsn", re.IGNORECASE)


_SHORT = 64
_SHORT_MAX = 4096
"""Types, outcomes, keys: the same short texts are written again and again."""


def redact(text: str) -> str:
    """Strike out what may be a token, a password or a media URL."""
    if text.isdecimal():  # an id, of which each is new to the cache: nothing that is struck out is digits alone
        return text
    return _redact_short(text) if len(text) <= _SHORT else _SECRETS.sub(_strike_out, text)


def redact_value(name: str, value: Any) -> Any:
    """Strike out what a name calls secret, whatever it holds, and what may be a secret in any text within."""
    match value:
        case None | bool() | int() | float():
            return value
        case _ if is_secret(name):
            return HIDDEN
        case str():
            return redact(value)
        case Mapping():
            return {str(inner): redact_value(str(inner), item) for inner, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [redact_value("", item) for item in value]
        case _:
            return redact(str(value))


@lru_cache(_SHORT_MAX)
def _redact_short(text: str) -> str:
    return _SECRETS.sub(_strike_out, text)


@lru_cache(_SHORT_MAX)
def is_secret(name: str) -> bool:
    """Tell whether a field of such a name holds a secret, or what is not for everybody."""
    return _SECRET_NAMES.search(name) is not None


def _strike_out(match: re.Match[str]) -> str:
    if match["name"]:
        return f"{match['name']}{match['separator']}[redacted]"
    if match["scheme"]:
        return f"{match['scheme']} [redacted]"
    if match["dsn"]:
        return f"{match['dsn']}:[redacted]@"
    return "[redacted]"
