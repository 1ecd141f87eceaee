"""``conflicts``, ``dead-letters`` and ``skip`` as an operator runs them, on real servers."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest
from verified import Regions, regions_of

from meshnode import cli
from meshnode.errors import Refused
from meshnode.ops import letters
from meshnode.topology import render


@pytest.fixture
async def stack():
    async with AsyncExitStack() as opened:
        yield opened


class Operator:
    """Runs commands the way a shell does and gives what they print."""

    def __init__(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._file = str(file)
        self._capsys = capsys

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        # A command has a loop of its own, so it gets a thread of its own.
        ended = await asyncio.to_thread(cli.main, [*arguments, "--topology", self._file])
        shown = self._capsys.readouterr()
        assert ended == code, shown
        return shown.out if code == 0 else shown.out + shown.err


@pytest.fixture
def operator_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def make(regions: Regions) -> Operator:
        file = tmp_path / "mesh.toml"
        # The test's servers are reached as root; a topology file wants three users.
        text = render(regions.topology)
        file.write_text(text.replace('"root"', '"tail"', 1).replace('"root"', '"apply"', 1))
        return Operator(file, capsys)

    return make


CONFLICT = (
    "INSERT INTO meshnode.conflict_log (at, schema_name, table_name, row_key, kind, certainty,"
    " policy, reason, winner_ts, winner_origin, loser_ts, loser_origin, winner_image, loser_image,"
    " origin, seq, tx_id) VALUES (UTC_TIMESTAMP(6), 'app', %s, %s, 'update/update', 'certain',"
    " 'lww', 'newer stamp', 1800000000000001, 1, 1800000000000000, 2, %s, %s, 2, 12, 'uuid:5')"
)


async def test_conflicts_are_listed_and_shown_side_by_side(servers, stack, operator_of) -> None:
    regions = await regions_of(stack, await servers(2))
    run = operator_of(regions)
    assert "no conflicts" in await run("conflicts", "list")
    winner = json.dumps({"id": 7, "name": "[bold]new", "same": 1.5})
    loser = json.dumps({"id": 7, "name": "old", "same": 1.5})
    await regions.sql[0].execute(CONFLICT, ("orders", '{"id": 7}', winner, loser))
    await regions.sql[1].execute(CONFLICT, ("items", '{"id": 8}', None, loser))
    listed = await run("conflicts", "list")
    assert "app.orders" in listed
    assert "id=8" in listed
    assert "app.orders" not in await run("conflicts", "list", "--region", "two")
    assert "app.items" not in await run("conflicts", "list", "--table", "app.orders")
    assert "app.orders" in await run("conflicts", "list", "--table", "orders")
    assert "no conflicts" in await run("conflicts", "list", "--table", "other.orders")
    answer = json.loads(await run("conflicts", "list", "--json", "--limit", "1", "--region", "one"))
    assert answer["away"] == {}
    (told,) = answer["conflicts"]
    assert told["winner_image"] == {"id": 7, "name": "[bold]new", "same": 1.5}
    shown = await run("conflicts", "show", str(told["id"]), "--region", "one")
    lines = {line.split()[0]: line for line in shown.splitlines() if line.split()}
    assert lines["*"].split() == ["*", "name", "'[bold]new'", "'old'"]
    assert "same" in lines
    assert "2027-01-15 08:00:00.000001Z one" in shown
    assert "uuid:5, item 12 of two" in shown
    deleted = await run("conflicts", "show", "1", "--region", "two")
    assert "(deleted)" in deleted
    assert "has no conflict 99" in await run("conflicts", "show", "99", "--region", "one", code=1)


LETTER = (
    "INSERT INTO meshnode.dead_letter (at, origin, seq, tx_id, schema_name, table_name, row_key,"
    " ts, stamp_origin, code, cause, image, body, state) VALUES (UTC_TIMESTAMP(6), 2, 12, 'uuid:5',"
    " 'app', 'orders', '{\"id\": 7}', 1800000000000000, 2, 3819, 'check violated',"
    " '{\"id\": 7, \"v\": -1}', 'body', %s)"
)


async def test_letters_are_listed_and_shown(servers, stack, operator_of) -> None:
    regions = await regions_of(stack, await servers(2))
    run = operator_of(regions)
    assert "no dead letters" in await run("dead-letters", "list")
    for state in ("open", "closed"):
        await regions.sql[0].execute(LETTER, (state,))
    (told,) = json.loads(await run("dead-letters", "list", "--json"))["letters"]
    assert (told["state"], told["code"], told["image"]) == ("open", 3819, {"id": 7, "v": -1})
    every = json.loads(await run("dead-letters", "list", "--json", "--state", "all"))
    assert len(every["letters"]) == 2
    none = json.loads(await run("dead-letters", "list", "--json", "--region", "two"))
    assert none == {"letters": [], "away": {}}
    shown = await run("dead-letters", "show", str(told["id"]), "--region", "one")
    assert "3819 check violated" in shown
    assert "app.orders id=7" in shown
    assert "2027-01-15 08:00:00.000000Z two" in shown


async def node_of(regions: Regions, at: int, becomes: dict[int, tuple[str, str]]) -> None:
    """What a running node does with letters that wait for replay."""
    done: set[int] = set()
    while done != set(becomes):
        for (number,) in await regions.sql[at].rows(
            "SELECT id FROM meshnode.dead_letter WHERE state = 'replay'"
        ):
            await regions.sql[at].execute(
                "UPDATE meshnode.dead_letter SET state = %s, note = %s WHERE id = %s",
                (*becomes[number], number),
            )
            done.add(number)
        await asyncio.sleep(0.02)


async def test_replay_asks_the_node_and_says_what_became_of_it(servers, stack, operator_of) -> None:
    regions = await regions_of(stack, await servers(2))
    run = operator_of(regions)
    for state in ("open", "open", "closed", "skipped"):
        await regions.sql[0].execute(LETTER, (state,))
    one, two, closed, skipped = [
        row[0]
        for row in await regions.sql[0].rows("SELECT id FROM meshnode.dead_letter ORDER BY 1")
    ]
    node = asyncio.create_task(
        node_of(regions, 0, {one: ("closed", "replayed"), two: ("open", "check violated")})
    )
    said = await run("dead-letters", "replay", "--all", "--region", "one", code=1)
    await node
    assert f"one {one}: closed" in said
    assert f"one {two}: open again: check violated" in said
    again = ("dead-letters", "replay", str(two), "--region", "one", "--wait", "0")
    assert f"one {two}: still waiting: the node has not come to it" in await run(*again, code=1)
    await regions.sql[0].execute(
        "UPDATE meshnode.dead_letter SET note = 'a column is missing' WHERE id = %s", (two,)
    )
    assert f"one {two}: still waiting: a column is missing" in await run(*again, code=1)
    refused = ("dead-letters", "replay", "--region", "one")
    assert "closed already" in await run(*refused, str(closed), code=1)
    assert "nothing to replay" in await run(*refused, str(skipped), code=1)
    assert "no dead letter 999" in await run(*refused, "999", code=1)
    await regions.sql[0].execute("UPDATE meshnode.dead_letter SET state = 'closed'")
    assert "no open dead letters" in await run("dead-letters", "replay", "--all", "--region", "one")


async def executed(regions: Regions, at: int) -> str:
    """The GTID of one transaction that the region's server has executed."""
    await regions.sql[at].execute("CREATE TABLE IF NOT EXISTS app.made_for_a_gtid (id INT)")
    uuid = await regions.sql[at].value("SELECT @@server_uuid")
    last = await regions.sql[at].value("SELECT @@GLOBAL.gtid_executed")
    return f"{uuid}:{last.rsplit('-', 1)[-1].rsplit(':', 1)[-1]}"


async def tailer(regions: Regions, at: int, state: str, reason: str) -> None:
    body = {"v": 1, "actors": [{"name": "tailer", "state": state, "reason": reason}]}
    await regions.sql[at].execute(
        "REPLACE INTO meshnode.heartbeat VALUES (%s, 1, 1, 1, %s)",
        (at + 1, orjson.dumps(body).decode()),
    )


async def test_skip_passes_only_the_transaction_that_halted_the_tailer(
    servers, stack, operator_of
) -> None:
    regions = await regions_of(stack, await servers(2))
    run = operator_of(regions)
    gtid = await executed(regions, 0)
    skip = ("skip", "--region", "one", "--tx")
    assert "its node is not heard" in await run(*skip, gtid, code=1)
    await tailer(regions, 0, "running", "")
    assert "it is running" in await run(*skip, gtid, code=1)
    await tailer(regions, 0, "halted", f"transaction {gtid}0 is TRUNCATE of app.x")
    assert "not halted at" in await run(*skip, gtid, code=1)
    # A set of purged transactions begins with it.
    await tailer(regions, 0, "halted", f"one has purged transactions ... published: {gtid}-999999")
    assert "not halted at" in await run(*skip, gtid, code=1)
    await tailer(regions, 0, "halted", f"transaction {gtid} is TRUNCATE of app.x")
    unknown = gtid.rsplit(":", 1)[0] + ":999999"
    assert "was not executed" in await run(*skip, unknown, code=1)
    said = await run(*skip, gtid.upper())
    assert f"nothing of transaction {gtid} will be published" in said
    assert "two keep their rows" in said
    assert await regions.sql[0].rows(
        "SELECT origin, seq, tx_id, cause, state FROM meshnode.dead_letter"
    ) == [(1, 0, gtid, f"transaction {gtid} is TRUNCATE of app.x", "skipped")]
    assert "skipped already" in await run(*skip, gtid)
    assert await regions.sql[0].value("SELECT COUNT(*) FROM meshnode.dead_letter") == 1


async def test_skip_with_force(servers, stack, operator_of) -> None:
    regions = await regions_of(stack, await servers(2))
    gtid = await executed(regions, 1)
    told = json.loads(
        await operator_of(regions)("skip", "--region", "two", "--tx", gtid, "--force", "--json")
    )
    assert told == {"region": "two", "tx": gtid, "new": True}
    (letter,) = (await letters.listed(regions.topology)).found
    assert (letter.region, letter.tx_id, letter.state) == ("two", gtid, "skipped")
    assert letter.table is None
    assert letter.cause == "skipped with --force"


@pytest.mark.parametrize(
    ("written", "gtid"),
    [
        ("3E11FA47-71CA-11E1-9E33-C80AA9429562:23", "3e11fa47-71ca-11e1-9e33-c80aa9429562:23"),
        (" 3e11fa47-71ca-11e1-9e33-c80aa9429562:Tag_1:9", None),
    ],
)
def test_a_gtid_is_written_as_the_server_does(written: str, gtid: str | None) -> None:
    assert letters.normalized(written) == (gtid or written.strip().lower())


@pytest.mark.parametrize(
    "written",
    [
        "",
        "23",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:0",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1,3e11fa47-71ca-11e1-9e33-c80aa9429562:2",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1:tag",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:9tag:1",
    ],
)
def test_anything_but_one_transaction_is_refused(written: str) -> None:
    with pytest.raises(Refused, match="is not the GTID of one transaction"):
        letters.normalized(written)


def test_a_reason_names_only_a_whole_transaction() -> None:
    """A set of them, as of purged ones, may begin or end with its number."""
    uuid, other = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
    gtid = f"{uuid}:5"
    for reason in (f"transaction {gtid} is XA", f"holds {gtid.upper()}: x", f"skip {gtid}"):
        assert letters._names(reason, gtid)
    for some in ("5-10", "50", "5:7", "5:tag:1", f"5,{other}:1", f"5,\n{other}:1"):
        assert not letters._names(f"has purged {uuid}:{some}", gtid)
    assert not letters._names(f"has purged {other}:1,{gtid}", gtid)
    assert not letters._names(f"has purged {other}:1,\n{gtid}", gtid)
    assert letters._names(f"transaction {uuid}:tag:5 is XA", f"{uuid}:tag:5")


@pytest.mark.parametrize("command", [["conflicts", "list"], ["dead-letters", "list"]])
async def test_lists_show_the_regions_that_can_be_asked_and_name_the_others(
    servers, throwaway, stack, operator_of, command: list[str]
) -> None:
    shared, own = (await servers(1))[0], await throwaway()
    regions = await regions_of(stack, [shared, own])
    await regions.sql[0].execute(CONFLICT, ("t", '{"id": 4711}', "{}", "{}"))
    await regions.sql[0].execute(
        "INSERT INTO meshnode.dead_letter (at, origin, seq, schema_name, table_name, row_key, ts,"
        " stamp_origin, code, cause, body, state) VALUES"
        " (UTC_TIMESTAMP(6), 2, 1, 'app', 't', '{\"id\": 4711}', 0, 0, 0, 'why', '', 'open')"
    )
    operator = operator_of(regions)
    assert "4711" in await operator(*command)
    own.kill()
    shown = await operator(*command, code=1)
    assert "4711" in shown and "two cannot be asked: no connection to the MySQL" in shown
    shown = await operator(*command, "--json", code=1)
    told, _ = json.JSONDecoder().raw_decode(shown)
    (found,) = told["conflicts" if command[0] == "conflicts" else "letters"]
    assert found["key"] == {"id": 4711}
    assert "no connection to the MySQL" in told["away"]["two"]["error"]
    assert told["away"]["two"]["remedy"]
    assert "4711" in await operator(*command, "--region", "one")
    assert "4711" not in await operator(*command, "--region", "two", code=1)
