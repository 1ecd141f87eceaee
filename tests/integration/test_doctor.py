"""Each check of the doctor on a real server: break one thing, see that finding and no other."""

from contextlib import AsyncExitStack
from dataclasses import replace

import msgspec
import pytest
from doctor_cases import BU, CASES, Broken
from healthy import faults, healthy, with_accounts
from regions import run, topology_of

from meshnode.ops.checks import REGISTRY
from meshnode.ops.doctor import Finding, Level, examine, examine_mesh, list_checks, refusals
from meshnode.ops.install import init
from meshnode.topology import MysqlAddress


async def test_a_healthy_region_has_nothing_but_ok(servers) -> None:
    async with AsyncExitStack() as stack:
        topology, _ = await healthy(stack, await servers(1))
        found = await examine(topology, "one")
    assert faults(found) == []
    assert {finding.check for finding in found} == set(REGISTRY)
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[Finding]) == found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}-{case.says}"[:40])
async def test_the_doctor_finds_exactly_what_is_broken(servers, case: Broken) -> None:
    async with AsyncExitStack() as stack:
        topology, (one,) = await healthy(stack, await servers(1), also=case.before)
        await run(one, *case.statements)
        found = faults(await examine(topology, "one"))
    # A table that is new to the mesh is also reported as not replicated yet.
    found = [f for f in found if f.check == case.check or f.check != "not-replicated"]
    if case.check == "triggers":  # made by hand, so by another account
        found = [f for f in found if f.check != "trigger-definer"]
    assert [(f.check, f.level) for f in found] == [(case.check, case.level)], found
    assert case.subject in found[0].subject and case.says in found[0].finding
    assert found[0].remedy and found[0].region == "one"
    assert refusals(found) == (found if case.level is Level.REFUSE else [])


async def test_every_check_is_seen_to_fail(servers) -> None:
    """A check without a case here or a test of its own cannot be told from none."""
    elsewhere = {
        "log-bin",
        "rollback-on-timeout",
        "skip-errors",
        "super-read-only",
        "binlog-filter",
        "clock",
        "auto-increment",
        "cascades",
        "trigger-order",
        "published-history",
        "ops-port",
        "bus",
        "connection",
        "same-server",
        "auto-increment-offsets",
        "shapes",
        "generated-columns",
        "everywhere",
    }
    assert {case.check for case in CASES} | elsewhere == set(list_checks())


async def test_a_server_that_lost_published_commits(servers) -> None:
    async with AsyncExitStack() as stack:
        topology, (one,) = await healthy(stack, await servers(1))
        published = "00000000-0000-0000-0000-000000000001:1-7"
        await run(one, f"UPDATE meshnode.member SET tail_gtids = '{published}'")
        found = faults(await examine(topology, "one"))
        assert [(f.check, f.level) for f in found] == [("published-history", Level.REFUSE)]
        assert published in found[0].finding


async def test_a_user_trigger_behind_ours(servers) -> None:
    async with AsyncExitStack() as stack:
        topology, (one,) = await healthy(stack, await servers(1))
        await run(
            one, "CREATE TRIGGER app.z BEFORE UPDATE ON app.t FOR EACH ROW SET NEW._mesh_ts = 1"
        )
        found = faults(await examine(topology, "one"))
        assert [(f.check, f.level) for f in found] == [
            ("trigger-order", Level.REFUSE),
            ("user-triggers", Level.WARN),
        ] and BU in found[0].subject
        await init(topology)
        assert refusals(await examine(topology, "one")) == []


async def test_super_read_only_is_both(servers) -> None:
    async with AsyncExitStack() as stack:
        topology, (one,) = await healthy(stack, await servers(1))
        await run(one, "SET GLOBAL super_read_only = ON")
        found = faults(await examine(topology, "one"))
        assert {f.check for f in found} == {"read-only", "super-read-only"}
        await run(one, "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")


async def test_a_server_without_binlog_or_with_a_filter(throwaway) -> None:
    async with AsyncExitStack() as stack:
        server = await throwaway({"binlog_do_db": "other"})
        topology, (one,) = await healthy(stack, [server])
        found = faults(await examine(topology, "one"))
        assert [(f.check, f.subject) for f in found] == [("binlog-filter", "binlog-do-db")]
        await one.close()
        server = await throwaway(
            {
                "log_bin": None,
                "skip_log_bin": True,
                "gtid_mode": False,
                "enforce_gtid_consistency": False,
            }
        )
        topology, _ = await healthy(stack, [server])
        found = faults(await examine(topology, "one"))
        assert {f.check for f in found} == {"log-bin", "gtid-mode"}


START_OPTIONS = [
    ("skip-errors", "replica_skip_errors", "1062"),
    ("rollback-on-timeout", "innodb_rollback_on_timeout", "ON"),
]


@pytest.mark.parametrize(("name", "variable", "value"), START_OPTIONS)
async def test_what_only_a_new_start_of_the_server_sets_right(
    throwaway, name: str, variable: str, value: str
) -> None:
    async with AsyncExitStack() as stack:
        topology, _ = await healthy(stack, [await throwaway({variable: value})])
        found = faults(await examine(topology, "one", lab=True))
    assert [(f.check, f.level) for f in found] == [(name, Level.REFUSE)]
    assert f"is '{value}'" in found[0].finding
    assert found[0].remedy.startswith(f"start the server with {variable} = OFF")


async def test_durability_and_almighty_apply_are_warnings_in_a_lab(servers) -> None:
    async with AsyncExitStack() as stack:
        topology, (one,) = await healthy(stack, await servers(1))
        await run(one, "SET GLOBAL sync_binlog = 0", "GRANT ALL ON *.* TO mesh_apply")
        found = faults(await examine(topology, "one", lab=True))
        assert {(f.check, f.level) for f in found} == {
            ("sync-binlog", Level.WARN),
            ("apply-walls", Level.WARN),
        }
        assert len(refusals(await examine(topology, "one"))) == 2


CHILD = (
    "CREATE TABLE app.p (id INT PRIMARY KEY);CREATE TABLE app.c (id INT PRIMARY KEY, pid INT,"
    " FOREIGN KEY (pid) REFERENCES app.p (id) ON DELETE {rule})"
)


async def test_cascades_without_triggers_and_within_the_engine(servers, throwaway) -> None:
    async with AsyncExitStack() as stack:
        topology, (one,) = await healthy(
            stack, await servers(1), also=CHILD.format(rule="SET NULL")
        )
        found = faults(await examine(topology, "one"))
        assert [(f.check, f.level, f.subject) for f in found] == [("cascades", Level.WARN, "app.c")]
        await run(one, "SET GLOBAL enable_cascade_triggers = ON")
        assert faults(await examine(topology, "one")) == []
        native = await throwaway({"innodb_native_foreign_keys": True})
        topology, _ = await healthy(stack, [native], also=CHILD.format(rule="CASCADE"))
        found = faults(await examine(topology, "one"))
        assert [(f.check, f.level) for f in found] == [("cascades", Level.REFUSE)]


async def test_restricting_foreign_keys_are_no_finding(servers) -> None:
    async with AsyncExitStack() as stack:
        topology, _ = await healthy(stack, await servers(1), also=CHILD.format(rule="RESTRICT"))
        assert faults(await examine(topology, "one")) == []


NUMBERED = "CREATE TABLE app.n (id INT AUTO_INCREMENT PRIMARY KEY)"


async def test_numbers_that_would_collide(servers) -> None:
    async with AsyncExitStack() as stack:
        topology, both = await healthy(stack, await servers(2), also=NUMBERED)
        assert faults(await examine_mesh(topology)) == []
        await run(both[1], "SET GLOBAL auto_increment_offset = 1")
        found = faults(await examine_mesh(topology))
        assert [(f.check, f.region) for f in found] == [("auto-increment-offsets", "two")]
        assert "collides with region one" in found[0].finding
        await run(both[1], "SET GLOBAL auto_increment_increment = 1")
        found = faults(await examine_mesh(topology))
        assert [f.check for f in found] == ["auto-increment", "auto-increment-offsets"]
        assert "app.n" in found[0].finding and refusals(found) == found


async def test_faults_between_regions(servers) -> None:
    async with AsyncExitStack() as stack:
        topology, both = await healthy(stack, await servers(2))
        await run(both[1], "ALTER TABLE app.t MODIFY v INT UNSIGNED")
        found = faults(await examine_mesh(topology))
        assert [(f.check, f.region, f.subject) for f in found] == [("shapes", "two", "app.t")]
        await run(
            both[1],
            "ALTER TABLE app.t MODIFY v INT, ADD COLUMN w INT AS (id * 2)",
        )
        found = faults(await examine_mesh(topology))
        assert [(f.check, f.region, f.level) for f in found] == [("shapes", "two", Level.REFUSE)]
        await run(both[0], "ALTER TABLE app.t ADD COLUMN w INT AS (id * 3)")
        found = faults(await examine_mesh(topology))
        assert [(f.check, f.region) for f in found] == [("generated-columns", "two")]
        assert "`w` is generated as (`id` * 2) here" in found[0].finding
        one, two = topology.regions
        twice = msgspec.structs.replace(
            topology, regions=(one, msgspec.structs.replace(two, mysql=one.mysql))
        )
        found = faults(await examine_mesh(twice))
        assert {f.check for f in found} >= {"same-server", "bookkeeping", "triggers"}


async def test_an_unreachable_server_is_a_finding(servers) -> None:
    (server,) = await servers(1)
    topology = with_accounts(topology_of([server]))
    (region,) = topology.regions
    gone = msgspec.structs.replace(
        topology,
        regions=(msgspec.structs.replace(region, mysql=MysqlAddress(host="127.0.0.1", port=1)),),
    )
    found = await examine(gone, "one")
    assert [(f.check, f.level) for f in found] == [("connection", Level.REFUSE)] * 3
    assert "127.0.0.1:1" in found[0].finding and "address" in found[0].remedy


async def test_the_clock_is_compared(servers, monkeypatch) -> None:
    async with AsyncExitStack() as stack:
        topology, _ = await healthy(stack, await servers(1))
        monkeypatch.setattr("meshnode.ops.doctor_server.CLOCK_SKEW_US", -1)
        found = faults(await examine(topology, "one"))
        assert [(f.check, f.level) for f in found] == [("clock", Level.WARN)]


def test_cases_are_distinct() -> None:
    assert len({replace(case, level=Level.OK) for case in CASES}) == len(CASES)
