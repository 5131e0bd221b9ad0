"""The usage headers (Meta: Rate Limiting overview): whole percentages, and minutes to wait.

`X-Business-Use-Case-Usage` names the account, and for Instagram the business too, as a recorded one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from publisher.sandbox.objects import Account, Platform

FIGURES: Final = ("call_count", "total_cputime", "total_time")
WAIT: Final = "estimated_time_to_regain_access"
APP_USAGE: Final = '{"call_count":0,"total_cputime":0,"total_time":0}'


def business_usage(account: Account, overridden: Mapping[str, int] | None = None) -> str:
    """Return the value of X-Business-Use-Case-Usage."""
    figures = {**account.usage, **(overridden or {})}
    is_instagram = account.platform == Platform.INSTAGRAM
    row = {"type": "instagram" if is_instagram else "pages"}
    rows = [row | {name: figures.get(name, 0) for name in (*FIGURES, WAIT)}]
    keys = (account.business_id, account.id) if is_instagram else (account.id,)
    return orjson.dumps(dict.fromkeys(keys, rows)).decode()


def app_usage(overridden: Mapping[str, int]) -> str:
    """Return the value of X-App-Usage, which has no wait in it."""
    return orjson.dumps({name: overridden.get(name, 0) for name in FIGURES}).decode()


def page_usage(account: Account, overridden: Mapping[str, int] | None = None) -> str:
    """Return the value of X-Page-Usage, of which no recorded one is known: it has the shape of X-App-Usage."""
    return app_usage({**account.usage, **(overridden or {})})
