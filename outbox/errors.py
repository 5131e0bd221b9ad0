"""The errors of the store: a class for each decision that its callers take."""

from __future__ import annotations


class OutboxError(Exception):
    """Root of all errors that this package raises; its message is one sentence for people."""


class LeaseLost(OutboxError):
    """This relay incarnation may write no more: drop everything in memory and join again as a new one."""


class Unwritable(OutboxError):
    """PostgreSQL does not take a row of a batch; nothing was written: find out whose it is, and write the others."""


class VerifyOnly(LeaseLost):
    """Relays may only verify, or that has to be decided: drop everything, and look at the cluster before joining."""


class LeaseTooShort(OutboxError):
    """The lease would end before an irreversible call could, even renewed: the call must not be made."""


class EventCancelled(OutboxError):
    """An operator cancelled the event before its irreversible call: end it as cancelled."""


class DeadlinePassed(OutboxError):
    """The event's `expires_at` passed before its irreversible call: end it as expired."""


class EventResolved(OutboxError):
    """A person says that an earlier call of the event took effect: make no other, and go on from that."""


class EventHeld(OutboxError):
    """An irreversible call may be made once more, but not before a hold of the event's key or the app ends: wait."""


class Refused(OutboxError):
    """An operation for people was refused by the store's rules, and the message says which and what to do."""


class DatabaseUnsuitable(OutboxError):
    """The database can't serve a relay: unreachable, too old, read-only, or the role lacks a grant."""
