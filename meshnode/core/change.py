"""A local transaction as the tailer saw it, and its net effect on each key.

The tailer collects row operations in binlog order together with the tombstones
that triggers wrote in the same transaction.  :func:`net_effects` folds them to
one :class:`Net` a key: what the first touch found, how the last one left the
row, which versions it replaced, and whether a delete went by that no trigger
saw.  What to publish and what to mend is decided from that in
:mod:`meshnode.core.mend`.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from meshnode.core.shape import Shape
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE, Beat

ScanRow = tuple[int, int, bytes, int, int]
"""``start, stop, key, ts, origin`` of one image."""

ScanPair = tuple[int, int, bytes, int, int, int, bytes, int, int]
"""``start, middle, key, ts, origin`` of a before image, ``stop, key, ts, origin`` of the after."""


_VARIES = 8
"""Bytes at the head of a TABLE_MAP body: the table's id (6) and flags (2)."""


def definition_of(data: bytes, start: int = 0, stop: int | None = None) -> bytes:
    """What the TABLE_MAP body ``data[start:stop]`` says of its table; equal ones are one table.

    The id is the server's own.  The flags differ between events of one table: those that a
    foreign key's check opened it for say so (TM_REFERRED_FK_DB_F).
    """
    return data[start + _VARIES : stop]


@dataclass(slots=True, eq=False)
class Table:
    """A replicated table as one table map describes it.

    ``digest`` names it in the bookkeeping.  ``is_key`` says whether bytes have the
    form of its keys.  ``folds`` gives the canonical form of each key seen, as the
    collation has it; ``None`` where equal keys are equal bytes.
    """

    schema: str
    name: str
    digest: str
    shape: Shape
    map_body: bytes
    scan_rows: Callable[[bytes, int, int], list[ScanRow]]
    scan_pairs: Callable[[bytes, int, int], list[ScanPair]]
    is_key: Callable[[bytes], bool]
    folds: dict[bytes, bytes] | None = None

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"

    def fold(self, key: bytes) -> bytes:
        """The canonical form of ``key``; KeyError when nobody has asked MySQL for it yet."""
        return key if self.folds is None else self.folds[key]


class RowOp(msgspec.Struct, eq=False):
    """Images of one kind on one table with what the scanner found in them."""

    table: Table
    kind: int
    rows: bytes
    found: list

    def wire_keys(self) -> list[bytes]:
        """Wire keys of all images, in order, with repetitions."""
        if self.kind != UPDATE:
            return [row[2] for row in self.found]
        keys = []
        for pair in self.found:
            keys.append(pair[2])
            if pair[6] != pair[2]:
                keys.append(pair[6])
        return keys


@dataclass(slots=True, eq=False)
class Mended:
    """A lift says what the row it lifted had replaced (read from ``meshnode.mend``)."""

    seen: Stamp
    base: Stamp
    base_row: bool


Marker = tuple[str, bytes]
"""``digest, wire key``: a key where only the digest of its table is at hand."""


def in_form(tables: Iterable[Table], forms: dict[str, Table]) -> bool:
    """Whether ``tables`` are defined as ``forms`` has them, by digest; those that are new go in."""
    return all(forms.setdefault(table.digest, table) is table for table in tables)


class Partial(NamedTuple):
    """A row whose image was not full.

    ``alive``: whether it is there after it; ``stamp`` if the image had one; ``behind``: how
    many of the transaction's row operations come before it, all of them unless said.
    """

    table: Table
    key: bytes
    alive: bool
    stamp: Stamp | None
    behind: int = sys.maxsize


class Transaction(msgspec.Struct, eq=False):
    """A local transaction, or a part of one, in binlog order.

    ``tombstones`` holds what the triggers wrote, by table digest and key;
    ``partial`` rows whose images were not full: such rows are lifted;
    ``passed`` the transactions (this one last, if it is complete) that the
    stream has passed since the one before, as source and number; ``format`` the
    format description event that its images follow, ``server`` the version that
    wrote them.  ``shortened``: large before images were cut to key and stamp, so
    the images give the outcomes, but must not be sent to a server as they are.
    """

    tx_id: str
    commit_us: int
    part: int = 0
    last: bool = True
    ops: list[RowOp] = []
    tombstones: list[tuple[str, bytes, Stamp]] = []
    mended: dict[Marker, Mended] = {}
    partial: list[Partial] = []
    beat: Beat | None = None
    passed: list[tuple[str, int]] = []
    format: bytes = b""
    server: str = ""
    rows: int = 0
    size: int = 0
    shortened: bool = False


class Net(msgspec.Struct, eq=False):
    """The effect of one transaction on one key.

    ``before``: the row's stamp when the transaction came, ``None`` if there was
    no row.  ``stamp``: the row's stamp at the end, ``None`` if it is gone.
    ``replaced``: the highest version the transaction itself is known to have
    replaced.  ``unseen``: the highest before image whose delete may lack a
    tombstone.  ``tomb``: the highest tombstone the transaction wrote.
    ``op, place``: where the last after image stands.  ``blind``: a row went whose
    image did not show its stamp.
    """

    table: Table
    key: bytes
    before: Stamp | None
    stamp: Stamp | None = None
    replaced: Stamp = ZERO
    unseen: Stamp | None = None
    tomb: Stamp | None = None
    partial: bool = False
    op: int = -1
    place: int = -1
    blind: bool = False


NetKey = tuple[Table, bytes]
"""A table and the canonical form of a key."""


def tombstones_of(
    tx: Transaction, known: Mapping[str, Table]
) -> Iterator[tuple[Table, bytes, Stamp]]:
    """The tombstones of ``tx``, each with its table in the form that the rows of ``tx`` have.

    The newest form may be of a definition that came after ``tx``: a delete and
    its tombstone would then be taken for two keys.  What is no key of the table
    is left out.
    """
    if not tx.tombstones:
        return
    forms = {each.table.digest: each.table for each in tx.partial}
    forms.update((op.table.digest, op.table) for op in tx.ops)
    for digest, key, stamp in tx.tombstones:
        table = forms.get(digest) or known.get(digest)
        if table is not None and table.is_key(key):
            yield table, key, stamp


def net_effects(tx: Transaction, known: Mapping[str, Table]) -> dict[NetKey, Net]:
    """The net effect of ``tx`` on each key, in the order of their first touch.

    ``known`` has the newest form of every table seen, by digest.  A tombstone
    without a row change in this transaction (a part may end between the two)
    counts as a delete; that of a table that is not replicated counts as nothing.
    """
    nets: dict[NetKey, Net] = {}
    partial = deque(tx.partial)
    for number, op in enumerate(tx.ops):
        while partial and partial[0].behind <= number:
            _shortened(nets, partial.popleft())
        if op.kind == WRITE:
            _inserted(nets, number, op)
        elif op.kind == DELETE:
            _deleted(nets, op)
        else:
            _updated(nets, number, op)
    for each in partial:
        _shortened(nets, each)
    for table, key, stamp in tombstones_of(tx, known):
        net = nets.setdefault((table, table.fold(key)), Net(table, key, None))
        net.tomb = max(net.tomb or ZERO, stamp)
    for net in nets.values():
        if net.tomb is not None:
            net.replaced = max(net.replaced, net.tomb)
    return nets


def _shortened(nets: dict[NetKey, Net], partial: Partial) -> None:
    """A row whose image was not full."""
    table, key, alive, stamp, _ = partial
    net = nets.setdefault((table, table.fold(key)), Net(table, key, None))
    net.op, net.partial = -1, alive
    if alive:
        net.stamp = stamp or ZERO
    else:
        _gone(net, stamp or ZERO)
        net.blind = net.blind or stamp is None


def _inserted(nets: dict[NetKey, Net], number: int, op: RowOp) -> None:
    table, folds = op.table, op.table.folds
    for place, (_, _, key, ts, origin) in enumerate(op.found):
        at = (table, key if folds is None else folds[key])
        net = nets.get(at)
        if net is None:
            nets[at] = net = Net(table, key, None)
        net.key, net.stamp, net.op, net.place = key, Stamp(ts, origin), number, place


def _deleted(nets: dict[NetKey, Net], op: RowOp) -> None:
    table, folds = op.table, op.table.folds
    for _, _, key, ts, origin in op.found:
        at = (table, key if folds is None else folds[key])
        net = nets.get(at)
        if net is None:
            nets[at] = net = Net(table, key, Stamp(ts, origin))
        _gone(net, Stamp(ts, origin))


def _updated(nets: dict[NetKey, Net], number: int, op: RowOp) -> None:
    """One that moves a row to another key is the end of the one and the beginning of the other."""
    table, folds = op.table, op.table.folds
    for place, pair in enumerate(op.found):
        _, _, old, old_ts, old_origin, _, new, ts, origin = pair
        before, after = Stamp(old_ts, old_origin), Stamp(ts, origin)
        at = (table, old if folds is None else folds[old])
        net = nets.get(at)
        if net is None:
            nets[at] = net = Net(table, old, before)
        to = at if new == old else (table, new if folds is None else folds[new])
        if to != at:
            _gone(net, before)
            net = nets.get(to)
            if net is None:
                nets[to] = net = Net(table, new, None)
        else:
            net.replaced = max(net.replaced, before)
            if after < before:
                net.unseen = max(net.unseen or ZERO, before)
        net.key, net.stamp, net.op, net.place = new, after, number, place


def _gone(net: Net, stamp: Stamp) -> None:
    net.stamp = None
    net.replaced = max(net.replaced, stamp)
    net.unseen = max(net.unseen or ZERO, stamp)
