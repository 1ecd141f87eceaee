"""One key of one table, judged and published: what the tests of the mender's rules share."""

from core_values import OWN, at, number_table

from meshnode.core.change import net_effects
from meshnode.core.mend import Examiner, Removed, to_item
from meshnode.core.stamp import Stamp

T = number_table()
KNOWN = {T.digest: T}
K = at(T, 1)
NUMBER = {T: 0}


def s(ts, origin=OWN):
    return Stamp(ts, origin)


def examine(tx, tombstones=None, locked=frozenset(), promised=0):
    examiner = Examiner(OWN, promised)
    return examiner.examine(tx, net_effects(tx, KNOWN), tombstones or {}, locked)


def publish(examined, tombstones=None, mended=None, removed=None):
    return to_item(examined, tombstones or {}, mended or {}, NUMBER, removed or Removed())


def summary(item):
    return [(e.key, e.outcome, e.stamp, e.base, e.base_row) for e in item.entries]
