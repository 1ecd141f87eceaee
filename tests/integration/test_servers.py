"""The lab's MySQL servers: life cycle, isolation, and what is left behind."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pymysql
import pytest
from server_pool import PASSWORD, remove_leftovers

from meshnode.errors import Refused, Retry
from meshnode.lab import files, processes
from meshnode.lab.servers import Server, find_mysql8, find_mysqld


def ask(server: Server, statement: str):
    """The first value that a statement returns."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        return row and row[0]


def processes_of(server: Server) -> list[int]:
    """All process ids whose command line names the server's data directory."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = line.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"--datadir={server.data}".encode() in arguments:
            found.append(int(line.parent.name))
    return found


async def test_a_mesh_server_has_what_the_mesh_requires(throwaway):
    server = await throwaway(auto_increment=(8, 3))
    required = {
        "gtid_mode": "ON",
        "enforce_gtid_consistency": "ON",
        "log_bin": 1,
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
        "sync_binlog": 1,
        "innodb_flush_log_at_trx_commit": 1,
        "max_allowed_packet": 2**30,
        "skip_name_resolve": 1,
        "local_infile": 0,
        "performance_schema": 0,
        "bind_address": "127.0.0.1",
        "auto_increment_increment": 8,
        "auto_increment_offset": 3,
        "server_id": server.server_id,
    }
    assert {name: ask(server, f"SELECT @@GLOBAL.{name}") for name in required} == required
    assert ask(server, "SELECT @@GLOBAL.gtid_executed") == ""
    # Its accounts are made by no transaction of the binary log.
    assert ask(server, "SELECT CURRENT_USER()") == "root@%"
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE USER app IDENTIFIED BY 'app'")
        cursor.execute("GRANT REPLICATION SLAVE ON *.* TO app")


async def test_committed_rows_survive_kill_and_the_port_stays(throwaway):
    server = await throwaway()
    port, first = server.port, server.pid
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE d")
        cursor.execute("CREATE TABLE d.t (id INT PRIMARY KEY)")
        cursor.execute("INSERT INTO d.t VALUES (7)")
    identity = ask(server, "SELECT @@server_uuid")
    await server.kill_async()
    assert not server.running
    assert processes_of(server) == []
    with pytest.raises(pymysql.OperationalError):
        server.connect(connect_timeout=2)

    await server.start_async()
    assert (server.port, server.running) == (port, True)
    assert server.pid != first
    assert ask(server, "SELECT id FROM d.t") == 7
    server.restart()
    assert (ask(server, "SELECT id FROM d.t"), server.port) == (7, port)
    assert ask(server, "SELECT @@server_uuid") == identity


async def test_a_socket_lock_with_a_living_foreign_process_does_not_stop_a_start(throwaway):
    server = await throwaway()
    await server.kill_async()
    lock = server.socket.with_name(server.socket.name + ".lock")
    lock.write_text(f"{os.getpid()}\n")
    await server.start_async()
    assert ask(server, "SELECT 1") == 1


async def test_two_servers_are_strangers(servers):
    one, two = await servers(2)
    assert ask(one, "SELECT @@server_uuid") != ask(two, "SELECT @@server_uuid")
    assert ask(one, "SELECT @@server_id") != ask(two, "SELECT @@server_id")
    assert one.port != two.port


async def test_stop_leaves_nothing(throwaway):
    server = await throwaway()
    assert processes_of(server) == [server.pid]
    await server.stop_async()
    assert processes_of(server) == []
    assert not server.socket.exists()
    assert "Shutdown complete" in server.error_log_tail()
    server.remove()
    assert not server.directory.exists()


async def test_a_wrong_option_is_told_with_the_end_of_the_log(throwaway):
    server = await throwaway({"no_such_option": 1}, start=False)
    with pytest.raises(Refused, match=r"unknown variable 'no_such_option=1'") as caught:
        await server.start_async()
    assert str(server.error_log) in caught.value.what
    assert processes_of(server) == []


async def test_a_wrong_password_is_told_at_once_and_harms_nothing(throwaway):
    server = await throwaway()
    other = Server(server.mysqld, server.directory, server.server_id, password="other")
    with pytest.raises(Refused, match="refuses root's login"):
        other.start()
    assert ask(server, "SELECT 1") == 1


async def test_passwords_are_quoted(throwaway):
    server = await throwaway(start=False)
    server.password = "it's \\ \"odd\" 'x' \\n"
    await server.start_async()
    assert ask(server, "SELECT 1") == 1
    server.password = ""
    with pytest.raises(pymysql.OperationalError, match="1045"):
        server.connect()


async def test_a_frozen_server_answers_after_resume_and_can_be_stopped(throwaway):
    server = await throwaway()
    with server.connect(read_timeout=1) as connection, connection.cursor() as cursor:
        server.pause()
        with pytest.raises(pymysql.OperationalError):
            cursor.execute("SELECT 1")
        assert server.running
        with pytest.raises(Retry, match="not ready after"):
            server.start(seconds=0.5)
        server.resume()
    assert ask(server, "SELECT 2") == 2
    server.pause()
    await server.stop_async()
    assert "Shutdown complete" in server.error_log_tail()
    with pytest.raises(Refused, match="does not run"):
        server.pause()


async def test_a_taken_port_is_refused_when_given_and_avoided_when_not(throwaway, monkeypatch):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        other = await throwaway(start=False)
        named = Server(other.mysqld, other.directory, 1, port=taken, die_with_parent=True)
        with pytest.raises(Refused, match="Bind on TCP/IP port"):
            named.start()
        named.remove()

        offered = iter([taken, processes.free_port()])
        monkeypatch.setattr(processes, "free_port", lambda host: next(offered))
        server = await throwaway()
        assert server.port != taken
        assert next(offered, None) is None


async def test_a_server_is_found_again_from_its_folder(throwaway):
    server = await throwaway()
    again = Server.open(server.directory)
    assert (again.pid, again.port, again.password) == (server.pid, server.port, PASSWORD)
    assert again.mysqld == server.mysqld
    assert ask(again, "SELECT 1") == 1
    again.stop()
    assert not server.running
    with pytest.raises(Refused, match="no server was ever started there"):
        Server.open(server.directory / "data")


async def test_the_folder_of_a_running_server_is_not_started_twice(throwaway):
    server = await throwaway()
    twin = Server(server.mysqld, server.directory, server.server_id, password=PASSWORD)
    twin.start()
    assert twin.port == server.port
    assert processes_of(server) == [server.pid]


def test_no_signal_goes_to_a_stranger_with_the_old_process_id(new_server):
    server = new_server()
    server.start()
    server.stop()
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (server.directory / "process.pid").write_text(f"{stranger.pid}\n")
        assert server.pid is None
        server.kill()
        server.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


STARTER = """
    import sys, time
    from meshnode.lab.servers import Server, find_mysqld
    place, fate = sys.argv[1:]
    server = Server(find_mysqld(), place, 1, die_with_parent=fate == "dies")
    server.start()
    print(server.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("fate", ["dies", "survives"])
def test_the_starter_is_killed(new_server, fate):
    place = new_server().directory
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STARTER), str(place), fate],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        pid = int(starter.stdout.readline())
        server = Server.open(place)
        assert server.pid == pid
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait()
        starter.stdout.close()
    if fate == "dies":
        deadline = time.monotonic() + 20
        while server.running and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.running
    else:
        assert server.running
        assert ask(server, "SELECT 1") == 1
        server.stop()


async def test_a_deep_folder_still_gets_a_socket(server_pool):
    shallow = server_pool.make()
    server = Server(
        shallow.mysqld, shallow.directory / ("deep" * 30), 1, password="p", die_with_parent=True
    )
    try:
        await server.start_async()
        assert len(os.fsencode(server.socket)) <= files.SOCKET_PATH_BYTES
        assert server.socket.is_socket()
        assert ask(server, "SELECT 1") == 1
    finally:
        server.remove()
    assert not server.socket.parent.exists()


def test_the_client_program_works(new_server):
    server = new_server()
    server.start()
    done = subprocess.run(
        [*server.client_argv(), "--batch", "--skip-column-names", "--execute=SELECT 6*7"],
        env={**os.environ, "MYSQL_PWD": PASSWORD},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "42\n"


async def test_a_shared_server_is_clean_for_the_next_test(server_pool):
    server = server_pool.take(1)[0]
    identity = ask(server, "SELECT @@server_uuid")
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE `odd``name`")
        cursor.execute("CREATE TABLE `odd``name`.t (id INT PRIMARY KEY)")
        cursor.execute("CREATE USER somebody")
        cursor.execute("SET PERSIST max_connections = 77")
        cursor.execute("SET GLOBAL sql_mode = ''")
        cursor.execute("XA START 'g', 'b', 5")
        cursor.execute("INSERT INTO `odd``name`.t VALUES (1)")
        cursor.execute("XA END 'g', 'b', 5")
        cursor.execute("XA PREPARE 'g', 'b', 5")
    holder = server.connect(autocommit=False)
    holder.cursor().execute("SELECT * FROM `odd``name`.t")  # holds the table's metadata lock
    ask(server, "SET GLOBAL super_read_only = 1")
    server_pool.give_back()

    again = server_pool.take(1)[0]
    server_pool.give_back()
    assert again is server
    assert ask(again, "SELECT @@server_uuid") == identity
    assert ask(again, "SELECT @@GLOBAL.gtid_executed") == ""
    assert ask(again, "SELECT @@GLOBAL.max_connections") == 151
    assert "STRICT_TRANS_TABLES" in ask(again, "SELECT @@GLOBAL.sql_mode")
    assert ask(again, "SELECT @@GLOBAL.read_only") == 0
    assert ask(again, "SELECT COUNT(*) FROM mysql.user WHERE user = 'somebody'") == 0
    assert ask(again, "SHOW DATABASES LIKE 'odd%'") is None
    assert ask(again, "XA RECOVER") is None


async def test_a_killed_shared_server_is_replaced(server_pool):
    server = server_pool.take(1)[0]
    server.kill()
    server_pool.give_back()
    again = server_pool.take(1)[0]
    server_pool.give_back()
    assert again.running
    assert ask(again, "SELECT 1") == 1


def test_leftovers_of_a_dead_session_go_and_those_of_a_living_one_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = subprocess.Popen(["true"])
    child.wait()
    (tmp_path / f"meshnode-test-{child.pid}-x/data").mkdir(parents=True)
    (tmp_path / f"meshnode-test-{os.getpid()}-x").mkdir()
    remove_leftovers()
    assert [folder.name for folder in tmp_path.iterdir()] == [f"meshnode-test-{os.getpid()}-x"]


def test_a_named_program_that_is_none_is_refused(tmp_path, monkeypatch):
    with pytest.raises(Refused, match="is no program"):
        find_mysqld(str(tmp_path / "absent"))
    script = tmp_path / "mysqld"
    script.write_text("#!/bin/sh\necho 'mysqld  Ver 10.11.6-MariaDB for debian-linux-gnu'\n")
    script.chmod(0o755)
    monkeypatch.setenv("MESHNODE_MYSQLD", str(script))
    with pytest.raises(Refused, match=r"no MySQL server of version 8\.0 or later"):
        find_mysqld()


async def test_a_named_program_comes_first(mysqld, tmp_path, monkeypatch):
    script = tmp_path / "mysqld"
    script.write_text(f'#!/bin/sh\nexec {" ".join(mysqld.argv)} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("MESHNODE_MYSQLD", str(script))
    found = find_mysqld()
    assert found.argv == (str(script),)
    assert (found.version, found.basedir) == (mysqld.version, mysqld.basedir)


@pytest.mark.slow
def test_an_old_server_runs_with_the_same_options(new_server):
    server = new_server(mysqld=find_mysql8())
    server.start()
    assert server.mysqld.version.startswith("8.0.15")
    assert ask(server, "SELECT @@version").startswith("8.0.15")
    assert ask(server, "SELECT @@GLOBAL.binlog_row_metadata") == "FULL"
    assert ask(server, "SELECT @@GLOBAL.gtid_executed") == ""
    server.restart()
    assert ask(server, "SELECT CURRENT_USER()") == "root@%"
