"""The judges of a run are not blind: what is spoilt behind the mesh's back is found.

A fault of the test spoils one thing of each kind, without a trace in any binlog; the same plan
without it finds nothing.
"""

import contextlib
from collections.abc import AsyncIterator

import pytest

from chaos.faults import KINDS
from chaos.faults.kinds import Kind
from chaos.mesh import Mesh
from chaos.plan import Fault, Plan, Setting
from chaos.runner import run

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

SPOILT = (
    "UPDATE chaos.counters SET n = n + 1",
    "DELETE FROM chaos.facts WHERE token LIKE 'virginia0.1.%'",
    "UPDATE chaos.bank SET balance = balance + 1 WHERE region = 1 AND account = 1",
    "DELETE FROM chaos.sequences WHERE n = 2",
    "INSERT INTO audit.moves (origin, old_seq, new_seq, epoch) VALUES (1, 0, 1, 0)",
)


@contextlib.asynccontextmanager
async def spoil(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """Spoil a region when all clients have gone, so that nobody writes over it."""
    yield
    await mesh.send_away(*mesh.names)
    await mesh.settle()
    async with await mesh.sql(fault.target[0]) as control:
        await control.execute("SET SESSION sql_log_bin = 0")
        for statement in SPOILT:
            await control.execute(statement)


@pytest.mark.parametrize("spoilt", [False, True])
async def test_what_is_spoilt_is_found(tmp_path, monkeypatch, spoilt: bool) -> None:
    monkeypatch.setitem(KINDS, "test.spoil", Kind("test.spoil", "", spoil))
    faults = (Fault(5.0, "test.spoil", ("oregon",)),) if spoilt else ()
    plan = Plan("C2", 1, 6.0, Setting(regions=2), ("W2", "W3", "W4", "W7"), faults)
    result = await run(plan, tmp_path / "run")
    checks = {check for check, _ in result.findings}
    told = {text.split(":")[0] for _, text in result.findings}
    if spoilt:
        assert {"I1", "I2", "I4", "I5", "I6"} <= checks, result.findings
        assert {"W2", "W3", "W4", "W7"} <= told, result.findings
    else:
        assert result.good, result.findings
