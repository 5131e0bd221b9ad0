"""The error tables of the reference sheet, sections 4.3 to 4.5, row by row, as they were written down.

A copy on purpose: what the publisher's own table (`publisher/error_table.py`) leaves out, or follows differently, is
found by comparing the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from publisher.error_table import Reaction

RETRY, RECONCILE, NEW_CONTAINER, WAIT = Reaction.RETRY, Reaction.RECONCILE, Reaction.NEW_CONTAINER, Reaction.WAIT
DEFER, TOKEN, ACCOUNT, DEAD = Reaction.DEFER, Reaction.TOKEN, Reaction.ACCOUNT, Reaction.DEAD


@dataclass(frozen=True, slots=True)
class Line:
    """One error of the sheet.

    Attributes:
        section: Where it stands.
        code: `error.code`; None where only the subcode is known.
        subcode: `error.error_subcode`.
        reaction: What the sheet asks for, once it is certain that nothing is live.
        seen_in: `C` create, `S` a container's status text, `P` publish; empty where it is not said.
        times: How often at most, before the event is dead; None where the sheet names no number.
        fault: How the sandbox answers, where that is more than the two numbers.
    """

    section: str
    code: int | None
    subcode: int | None
    reaction: Reaction
    seen_in: str = ""
    times: int | None = None
    fault: Mapping[str, Any] = field(default_factory=dict)

    @property
    def platforms(self) -> tuple[str, ...]:
        """Whose calls answer so: the general ones of both, the others of one."""
        return {"4.3": ("instagram", "facebook"), "4.4": ("instagram",), "4.5": ("facebook",)}[self.section]

    def script(self, *, applied: bool = False) -> dict[str, Any]:
        """Return the fault of the sandbox that answers so, the call having taken effect or not."""
        if self.fault.get("action") == "drop":
            return {"action": "apply_then_drop" if applied else "drop"}
        # A code is always there; where the sheet knows the subcode alone, any other will do.
        numbers = {} if "body" in self.fault else {"code": self.number, "subcode": self.subcode}
        return {"action": "apply_then_error" if applied else "error", **numbers, **self.fault}

    @property
    def number(self) -> int:
        """Return a code, whether or not the sheet has one."""
        return 100 if self.code is None else self.code

    @property
    def is_silence(self) -> bool:
        """Whether Graph says nothing that could be read."""
        return self.code is None and self.subcode is None

    @property
    def is_outage(self) -> bool:
        """Whether Meta fails by itself."""
        return self.is_silence or (self.code, self.subcode) in {(1, None), (2, None), (-1, 2207001)}

    @property
    def id(self) -> str:
        """For the names of tests."""
        what = f"silence {self.fault.get('status', 'dropped')}" if self.is_silence else self.code
        return f"{self.section}-{what}-{self.subcode}"


GENERAL = (
    *(Line("4.3", code, None, RETRY) for code in (1, 2)),
    Line("4.3", 3, None, DEAD),
    Line("4.3", 4, None, DEFER),
    Line("4.3", 4, 2207051, DEFER),
    Line("4.3", 9, 2207042, DEFER),
    Line("4.3", 10, None, TOKEN),
    Line("4.3", 17, None, DEFER),
    Line("4.3", 24, 2207006, NEW_CONTAINER),
    Line("4.3", 24, 2207008, WAIT),
    Line("4.3", 25, 2207050, ACCOUNT),
    *(Line("4.3", code, None, DEFER) for code in (32, 80001, 80002)),
    Line("4.3", 100, None, DEAD),
    Line("4.3", 100, 33, ACCOUNT),
    Line("4.3", 102, None, TOKEN),
    *(Line("4.3", 190, subcode, TOKEN) for subcode in (None, 458, 460, 463, 467)),
    *(Line("4.3", 190, subcode, ACCOUNT) for subcode in (459, 464, 492)),
    *(Line("4.3", code, None, TOKEN) for code in (200, 283, 299)),
    Line("4.3", 324, 2069019, RETRY, times=2),
    Line("4.3", 341, None, DEFER),
    Line("4.3", 352, 2207026, DEAD),
    *(Line("4.3", 368, subcode, ACCOUNT) for subcode in (None, 1404006, 1404078, 1404112)),
    Line("4.3", 368, 1390008, DEFER),
    *(Line("4.3", 368, subcode, DEAD) for subcode in (1404102, 1346003)),
    Line("4.3", 506, None, RECONCILE, times=0),
    *(Line("4.3", 613, subcode, DEFER) for subcode in (None, 1996)),
    *(Line("4.3", code, None, DEAD) for code in (1609005, 1500)),
    Line("4.3", 200, 1609008, DEAD),
)

# The last row of 4.3: what is no answer of Graph's. A time-out takes its time, and is tried in test_faults.
SILENCE = (
    *(
        Line("4.3", None, None, RETRY, fault={"status": status, "body": body})
        for status, body in ((502, "<html></html>"), (200, "Service Unavailable"))
    ),
    Line("4.3", None, None, RETRY, fault={"action": "drop"}),
)

INSTAGRAM = (
    Line("4.4", -2, 2207003, RETRY, "CS", times=3),
    Line("4.4", -2, 2207020, NEW_CONTAINER, "P"),
    Line("4.4", -1, 2207001, RETRY, "CP"),
    Line("4.4", -1, 2207032, NEW_CONTAINER, "C"),
    Line("4.4", -1, 2207053, NEW_CONTAINER, "S"),
    Line("4.4", 1, 2207057, DEAD, "CS"),
    *(Line("4.4", 100, subcode, DEAD, "C") for subcode in (2207023, 2207028, 2207035, 2207036, 2207037, 2207040)),
    Line("4.4", 352, 2207026, DEAD, "CS"),
    Line("4.4", 9004, 2207052, RETRY, "CS", times=3),
    Line("4.4", 9007, 2207027, WAIT, "P"),
    Line("4.4", 36000, 2207004, DEAD, "C"),
    Line("4.4", 36001, 2207005, DEAD, "C"),
    Line("4.4", 36003, 2207009, DEAD, "C"),
    Line("4.4", 36004, 2207010, DEAD, "C"),
    Line("4.4", 200, None, TOKEN, fault={"status": 403}),
    # Not in Meta's table, seen in the wild.
    Line("4.4", None, 2207013, TOKEN),
    Line("4.4", None, 2207065, DEAD),
    Line("4.4", None, 2207076, NEW_CONTAINER, "S", times=1),
    Line("4.4", None, 2207077, NEW_CONTAINER, "S", times=1),
    Line("4.4", None, 2207078, DEFER),
    Line("4.4", None, 2207081, DEAD),
    Line("4.4", None, 2207082, NEW_CONTAINER, "S", times=2),
    Line("4.4", None, 2207085, NEW_CONTAINER, "S", times=1),
    Line("4.4", 36002, None, DEAD),
)

PAGE = (
    Line("4.5", 6000, None, RETRY, times=3),
    Line("4.5", 6001, None, RETRY),
    Line("4.5", 382, None, DEAD),
    Line("4.5", 389, None, RETRY, times=3),
    *(Line("4.5", code, None, TOKEN) for code in (1363005, 1363042)),
    *(Line("4.5", code, None, RETRY) for code in (1363019, 1363021, 1363030, 1363033)),
    *(Line("4.5", 1363000 + last, None, DEAD) for last in (20, 22, 23, 24, 25, 26, 31, 32)),
    *(Line("4.5", code, None, NEW_CONTAINER) for code in (1363037, 1363041, 1363045)),
    Line("4.5", 1363047, None, RETRY, times=1),
    Line("4.5", 1366046, None, DEAD),
    Line("4.5", 1366051, None, RECONCILE, times=0),
    Line("4.5", 1390008, None, DEFER),
    Line("4.5", 1349125, None, DEFER, times=1),
    Line("4.5", 1609008, None, DEAD),
    Line("4.5", 1609010, None, RETRY, times=1),
    Line("4.5", 2061006, None, DEAD),
    Line("4.5", 4854002, None, ACCOUNT),
)

SHEET = GENERAL + INSTAGRAM + PAGE
"""Every row with a number."""

WALKS = [(line, platform) for line in (*SHEET, *SILENCE) for platform in line.platforms]
"""Every row, once for each platform whose calls may answer so."""
