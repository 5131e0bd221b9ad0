"""A mishap as the fault that plays it: what is drawn at random is what could have been scripted. Pure."""

from __future__ import annotations

from typing import Final

from publisher.sandbox.chances import Mishap
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.fault_spec import Action, FaultSpec

Codes = tuple[tuple[int | None, int | None], ...]
_PAGE: Final = "<html><body><h1>Service Unavailable</h1></body></html>"
_PAGE_STATUSES: Final = (200, 502, 503)
_NO_CODE: Final[Codes] = ((None, None),)
_TEMPORARY: Final[Codes] = ((2, None), (1, None))
_ACTIONS: Final[dict[Mishap, tuple[Action, Codes]]] = {
    Mishap.REFUSED: ("error", _TEMPORARY),
    Mishap.LIMITED: ("error", ((4, None), (17, None), (613, None))),
    Mishap.DROPPED: ("drop", _NO_CODE),
    Mishap.DENIED: ("apply_then_error", _TEMPORARY),
    Mishap.LOST: ("apply_then_drop", _NO_CODE),
    Mishap.DELAYED: ("delay", _NO_CODE),
    Mishap.GARBLED: ("apply_then_error", _NO_CODE),
    Mishap.UNREADY: ("error", ((9007, 2207027),)),
    Mishap.UNREADABLE: ("error", ((100, 33),)),
    Mishap.UNREACHED: ("error", ((324, 2069019),)),
    # A container that failed in one of these ways is made again (Meta: Instagram error codes).
    Mishap.SPOILED: ("fail_media", ((None, 2207003), (None, 2207053), (None, 2207082))),
}
# Where an endpoint has words of its own.
_OWN_CODES: Final[dict[tuple[Mishap, Endpoint], Codes]] = {
    (Mishap.REFUSED, Endpoint.CREATE_CONTAINER): (*_TEMPORARY, (-1, 2207001)),
    (Mishap.REFUSED, Endpoint.PUBLISH_CONTAINER): (*_TEMPORARY, (-1, 2207001)),
    # What was seen to be answered about posts that were live in the same second (postiz-app#1681).
    (Mishap.DENIED, Endpoint.PUBLISH_CONTAINER): ((4, 2207051), (2, None), (-1, 2207001)),
    (Mishap.UNREACHED, Endpoint.CREATE_CONTAINER): ((9004, 2207052),),
}


def fault_for(mishap: Mishap, endpoint: Endpoint, choice: int, delay_seconds: float) -> FaultSpec:
    """Return the fault; `choice` decides where a mishap has several kinds."""
    action, codes = _ACTIONS[mishap]
    codes = _OWN_CODES.get((mishap, endpoint), codes)
    code, subcode = codes[choice % len(codes)]
    is_garbled = mishap is Mishap.GARBLED
    return FaultSpec(
        endpoint=endpoint,
        action=action,
        code=code,
        subcode=subcode,
        status=_PAGE_STATUSES[choice % len(_PAGE_STATUSES)] if is_garbled else None,
        body=_PAGE if is_garbled else None,
        delay_seconds=delay_seconds if mishap is Mishap.DELAYED else 0,
    )
