"""Who wins: last write by stamp, decided from whether the row exists and its versions.

The version of a key is the greater of its row's stamp and its tombstone's; at a
tie the row wins.  Every function here is a function of stamps only, so all
regions reach the same end whatever the order of arrival.
"""

from enum import IntEnum, StrEnum
from typing import NamedTuple

from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import REMOVE


class Local(NamedTuple):
    """A key in this region: the row's stamp or ``None``, the tombstone's or ``None``."""

    row: Stamp | None
    tomb: Stamp | None

    @property
    def version(self) -> Stamp:
        return max(self.row or ZERO, self.tomb or ZERO)


class Verdict(IntEnum):
    """What an incoming outcome does to the local key."""

    APPLY = 0
    DUPLICATE = 1
    LOST = 2


def decide(outcome: int, new: Stamp, local: Local) -> Verdict:
    """The verdict on ``outcome`` with stamp ``new``.

    A delete that lost still raises the tombstone (:func:`raised`).  A local row
    below its tombstone was inserted by a client and will be lifted: a delete
    that the tombstone has outlived must not take it.
    """
    if outcome == REMOVE:
        if local.row is not None and new <= local.row:
            return Verdict.LOST
        if local.tomb is not None and new <= local.tomb:
            return Verdict.DUPLICATE if new == local.tomb else Verdict.LOST
        return Verdict.APPLY
    if local.row is not None and new == local.row:
        return Verdict.DUPLICATE
    version = local.version
    if new > version or (new == local.tomb and local.row is None):
        return Verdict.APPLY
    return Verdict.LOST


def raised(outcome: int, new: Stamp, tomb: Stamp | None) -> Stamp | None:
    """The tombstone after the outcome: a delete's raises it, never lowers it."""
    if outcome == REMOVE and (tomb is None or new > tomb):
        return new
    return tomb


class Kind(StrEnum):
    """Kinds of conflict, first what arrived, then what stood."""

    INSERT_INSERT = "insert/insert"
    UPDATE_UPDATE = "update/update"
    UPDATE_DELETE = "update/delete"
    DELETE_UPDATE = "delete/update"
    DELETE_DELETE = "delete/delete"
    OVERTAKEN = "overtaken"
    LATE_DELETE = "late delete"


CERTAIN, POSSIBLE = "certain", "possible"


class Conflict(NamedTuple):
    """A version that lost to another; ``arrived_won`` says which one came in."""

    kind: Kind
    certainty: str
    winner: Stamp
    loser: Stamp
    arrived_won: bool


def conflict(
    outcome: int,
    new: Stamp,
    base: Stamp,
    base_row: bool,
    local: Local,
    verdict: Verdict,
    ancestors: tuple[Stamp, ...] | None,
) -> Conflict | None:
    """The record that this verdict owes, or ``None``.

    Nothing is owed when both versions are of one origin, when nothing was
    replaced, or when the loser is what the winner's writer had before it.
    ``ancestors`` are the versions known to precede the local one, newest first;
    ``None`` when they are not known (any more).
    """
    if verdict is Verdict.DUPLICATE:
        return None
    if local.row is None and local.tomb is None:
        return None
    stood = local.version
    if verdict is Verdict.APPLY and local.row is not None:
        # The row is what goes, also one below its tombstone that waits to be lifted.
        stood = local.row
    if stood.origin == new.origin:
        return None
    row_stands = local.row is not None and local.row == stood
    if outcome == REMOVE:
        kind = Kind.DELETE_UPDATE if row_stands else Kind.DELETE_DELETE
    elif not row_stands:
        kind = Kind.UPDATE_DELETE
    else:
        kind = Kind.UPDATE_UPDATE if base_row else Kind.INSERT_INSERT
    if verdict is Verdict.APPLY:
        if stood == base and row_stands == base_row:
            return None
        certainty = CERTAIN if stood > base else POSSIBLE
        return Conflict(kind, certainty, new, stood, True)
    if ancestors is None:
        return Conflict(kind, POSSIBLE, stood, new, False)
    if new in ancestors:
        return None
    certainty = CERTAIN if not ancestors or new > ancestors[0] else POSSIBLE
    return Conflict(kind, certainty, stood, new, False)
