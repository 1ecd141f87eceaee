"""Proof that every item was applied, and applied once, kept by the server itself.

Theory of operation.  A trigger on ``meshnode.applied`` writes down, in the transaction of the
data, from where to where it moved the position of a peer's stream.  What it wrote must be one
chain without gap or step back for each peer: then no item was left out, whatever died and
whenever.  Nor may a process of an older epoch have moved it after one of a newer.  A row image
that is applied again changes nothing, so what was applied twice shows in the records only: an
item that lost a conflict has one in each region, never two.
The proof needs nothing from the code under test.
"""

from meshnode.mysql.control import Control

STATEMENTS = (
    "CREATE DATABASE audit",
    "CREATE TABLE audit.moves (id BIGINT AUTO_INCREMENT PRIMARY KEY, origin INT NOT NULL,"
    " old_seq BIGINT NOT NULL, new_seq BIGINT NOT NULL, epoch BIGINT NOT NULL)",
    "CREATE TRIGGER meshnode.moves AFTER UPDATE ON meshnode.applied FOR EACH ROW"
    " INSERT INTO audit.moves (origin, old_seq, new_seq, epoch)"
    " SELECT NEW.origin, OLD.seq, NEW.seq, NEW.epoch"
    " WHERE NOT OLD.applied_at <=> NEW.applied_at",
    # Where the chains begin, if a node has run before.
    "INSERT INTO audit.moves (origin, old_seq, new_seq, epoch)"
    " SELECT origin, 0, seq, epoch FROM meshnode.applied WHERE seq > 0",
)


async def audit(control: Control) -> None:
    """Begin to write down the moves of all streams; to be called while no node runs."""
    await control.execute("SET SESSION sql_log_bin = 0")
    for statement in STATEMENTS:
        await control.execute(statement)
    await control.execute("SET SESSION sql_log_bin = 1")


async def chained(control: Control, region: str) -> None:
    """Every move of a peer's position begins where the one before it ended."""
    ends: dict[int, int] = {}
    epochs: dict[int, int] = {}
    moves = await control.rows(
        "SELECT origin, old_seq, new_seq, epoch FROM audit.moves ORDER BY id"
    )
    assert moves, f"{region}: nothing was applied"
    for origin, old, new, epoch in moves:
        assert epoch >= epochs.get(origin, 0), (
            f"{region}: epoch {epoch} moved the stream of {origin} after {epochs[origin]}"
        )
        epochs[origin] = epoch
        assert old == ends.get(origin, 0), (
            f"{region}: the stream of {origin} went on at {old}, but stood at {ends.get(origin, 0)}"
        )
        assert new > old, f"{region}: the stream of {origin} went from {old} back to {new}"
        ends[origin] = new
    for origin, seq in await control.rows("SELECT origin, seq FROM meshnode.applied"):
        assert ends.get(origin, 0) <= seq, f"{region}: the position of {origin} fell to {seq}"
    twice = await control.rows(
        "SELECT origin, seq, table_name, row_key, COUNT(*) FROM meshnode.conflict_log"
        " WHERE seq > 0"  # items; what the region's own mender records has no number
        " GROUP BY origin, seq, table_name, row_key, loser_ts, loser_origin HAVING COUNT(*) > 1"
    )
    assert not twice, f"{region}: applied and recorded twice: {twice[:3]}"
