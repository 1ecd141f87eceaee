"""The judges of a run are not blind: what is spoilt behind the mesh's back is found.

A fault of the test spoils one thing of each kind, without a trace in any binlog; the same plan
without it finds nothing.  What breaks the rules of a stream is planted in ``test_stream_rules.py``
(I5, I7, I10, I13), positions beyond a topic and pairs that stand still in ``test_progress.py``
(I8, I9).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from chaos import judge, unhurt
from chaos.faults import KINDS, links
from chaos.faults.kinds import Kind
from chaos.mesh import SCHEMA, Mesh
from chaos.plan import Fault, Plan, Setting
from chaos.runner import run
from meshnode.mysql.schema import tombstone_table

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

TOMBSTONES = tombstone_table(SCHEMA, "counters")
FAR = 30 * 86_400_000_000
"""Microseconds: no tombstone of so late a time is collected."""

SPOILT = (
    "UPDATE chaos.counters SET n = n + 1",
    "DELETE FROM chaos.facts WHERE token LIKE 'virginia0.1.%'",
    "UPDATE chaos.bank SET balance = balance + 1 WHERE region = 1 AND account = 1",
    "DELETE FROM chaos.sequences WHERE n = 2",
    "INSERT INTO audit.moves (origin, old_seq, new_seq, epoch) VALUES (1, 0, 1, 0)",
    f"INSERT INTO {TOMBSTONES} (id, _mesh_ts, _mesh_origin)"
    f" SELECT id, _mesh_ts + {FAR}, _mesh_origin FROM chaos.counters WHERE id = 1000",
    "INSERT INTO meshnode.dead_letter"
    " (at, origin, seq, tx_id, ts, stamp_origin, code, cause, body, state)"
    " VALUES (UTC_TIMESTAMP(6), 1, 1, 'x:1', 1, 1, 0, 'put there by a test', '', 'open')",
)
LAST_OF_FIVE = "SELECT COUNT(*) FROM chaos.sequences WHERE n = 5"
LOOK_SECONDS = 0.1


@contextlib.asynccontextmanager
async def spoil(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """Spoil a region when all clients have gone, so that nobody writes over it."""
    yield
    (region,) = fault.target
    for name in mesh.names:
        # However slow the machine is: all clients have written something.
        while await mesh.value(name, LAST_OF_FIVE) < len(mesh.names):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
    await mesh.send_away(*mesh.names)
    await mesh.settle()
    async with await mesh.sql(region) as control:
        await control.execute("SET SESSION sql_log_bin = 0")
        for statement in SPOILT:
            await control.execute(statement)
    # It ends, and nobody has asked it to.
    os.kill(mesh.node(region).pid or 0, signal.SIGKILL)


PLAN = Plan("C2", 1, 6.0, Setting(regions=2), ("W2", "W3", "W4", "W7"))


async def test_what_is_as_it_should_be_is_found_good(tmp_path) -> None:
    result = await run(PLAN, tmp_path / "run")
    assert result.good, result.findings


async def test_what_is_spoilt_is_found(tmp_path, monkeypatch) -> None:
    read = judge.read_stream

    async def with_one_more(bus, region, rules):
        """As if it were published, of a server that has not got it."""
        stream = await read(bus, region, rules)
        if region == "oregon":
            uuid = stream.transactions[0].rsplit(":", 1)[0]
            stream.transactions.append(f"{uuid}:4000000000")
        return stream

    monkeypatch.setattr(judge, "read_stream", with_one_more)
    monkeypatch.setitem(KINDS, "test.spoil", Kind("test.spoil", "", spoil))
    faults = (Fault(2.0, "test.spoil", ("oregon",)),)
    plan = Plan("C2", 1, 4.0, PLAN.setting, PLAN.workloads, faults)
    result = await run(plan, tmp_path / "run")
    checks = {check for check, _ in result.findings}
    told = {text.split(":")[0] for _, text in result.findings}
    assert {"I1", "I2", "I3", "I4", "I5", "I6", "I11", "I12", "I14"} <= checks, result.findings
    assert {"W2", "W3", "W4", "W7"} <= told, result.findings


async def test_a_cut_that_hurts_more_than_its_link_is_found(tmp_path, monkeypatch) -> None:
    """I8 on a real mesh: a third region stops hearing, too."""

    @contextlib.asynccontextmanager
    async def more(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
        a, b = fault.target
        (third,) = set(mesh.names) - {a, b}
        async with links.cut(mesh, [(a, b), (a, third)]):
            yield

    still = unhurt.Chase.still
    monkeypatch.setattr(unhurt.Chase, "still", lambda self: still(self, 4.0))
    monkeypatch.setitem(KINDS, "cut.one-way", Kind("cut.one-way", "", more))
    faults = (Fault(2.0, "cut.one-way", ("virginia", "oregon"), 1.0),)
    result = await run(Plan("C6", 1, 4.0, Setting(), ("W7",), faults), tmp_path / "run")
    found = [text for check, text in result.findings if check == "I8"]
    assert any("hears no more of virginia, whose link is whole" in text for text in found), found
