"""Passwords: where they come from, what is refused, and that none is ever shown."""

import os
from pathlib import Path

import pytest

from meshnode.accounts import PASSWORD_FILE_BYTES, Account, secrets
from meshnode.errors import Refused
from meshnode.topology import (
    Accounts,
    AccountSource,
    Bus,
    MysqlAddress,
    Region,
    Replicate,
    Topology,
)


def mesh(source: AccountSource, own: Accounts | None = None) -> Topology:
    regions = (
        Region(1, "east", MysqlAddress("a"), accounts=own or Accounts()),
        Region(2, "west", MysqlAddress("b")),
    )
    accounts = Accounts(tail=source)
    return Topology("m", Replicate(("s.*",)), Bus("file", "/b"), regions, accounts)


def password_file(folder: Path, content: bytes, mode: int = 0o600) -> AccountSource:
    path = folder / "tail.secret"
    path.write_bytes(content)
    path.chmod(mode)
    return AccountSource("t", password_file=str(path))


def test_a_password_from_the_environment() -> None:
    account = secrets(mesh(AccountSource("t", "T")), "east", "tail", {"T": " hunter2 "})
    assert account == Account("t", " hunter2 ")
    assert "hunter2" not in repr(account) + str(account) + f"{account}"


def test_the_environment_is_read_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    topology = mesh(AccountSource("t", "MESH_TEST_PASSWORD"))
    for password in ("one", "two"):
        monkeypatch.setenv("MESH_TEST_PASSWORD", password)
        assert secrets(topology, "west", "tail").password == password


def test_a_region_has_its_own_account_first() -> None:
    topology = mesh(AccountSource("t", "T"), Accounts(tail=AccountSource("own", "OWN")))
    environment = {"T": "all", "OWN": "mine"}
    assert secrets(topology, "east", "tail", environment) == Account("own", "mine")
    assert secrets(topology, "west", "tail", environment) == Account("t", "all")


@pytest.mark.parametrize(
    "content,password",
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b" p w ", " p w "),
        ("größe".encode(), "größe"),
        (b"x" * PASSWORD_FILE_BYTES, "x" * PASSWORD_FILE_BYTES),
    ],
)
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_password_from_a_file(content: bytes, password: str, mode: int, tmp_path: Path) -> None:
    topology = mesh(password_file(tmp_path, content, mode))
    assert secrets(topology, "west", "tail") == Account("t", password)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o644, 0o777])
def test_a_file_that_others_can_touch_is_refused(mode: int, tmp_path: Path) -> None:
    topology = mesh(password_file(tmp_path, b"hunter2", mode))
    with pytest.raises(Refused, match=f"mode {mode:04o}.*chmod 0600") as caught:
        secrets(topology, "west", "tail")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "content,words",
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\nhunter2", "more than one line"),
        (b"hunter2\n\n", "more than one line"),
        (b"hunter2\0", "NUL"),
        (b"hunter2\xff", "not UTF-8"),
        (b"hunter2" + b"x" * PASSWORD_FILE_BYTES, "is over 4096 bytes"),
    ],
)
def test_a_file_that_holds_no_password_is_refused(
    content: bytes, words: str, tmp_path: Path
) -> None:
    source = password_file(tmp_path, content)
    with pytest.raises(Refused, match=words) as caught:
        secrets(mesh(source), "west", "tail")
    text = str(caught.value)
    assert str(source.password_file) in text
    assert "account tail ('t') of region 'west'" in text
    assert caught.value.remedy
    assert "hunter2" not in text


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    missing = AccountSource("t", password_file=str(tmp_path / "none"))
    with pytest.raises(Refused, match="No such file"):
        secrets(mesh(missing), "west", "tail")
    folder = AccountSource("t", password_file=str(tmp_path))
    with pytest.raises(Refused, match="is not a file"):
        secrets(mesh(folder), "west", "tail")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(Refused, match="is not a file"):
        secrets(mesh(AccountSource("t", password_file=str(pipe))), "west", "tail")


def test_a_variable_that_is_missing_or_empty_is_named() -> None:
    topology = mesh(AccountSource("t", "MESH_TAIL"))
    with pytest.raises(Refused, match=r"'west'.*MESH_TAIL is not set.*export MESH_TAIL"):
        secrets(topology, "west", "tail", {})
    with pytest.raises(Refused, match="MESH_TAIL is empty"):
        secrets(topology, "west", "tail", {"MESH_TAIL": ""})


def test_an_account_or_region_that_is_not_there_is_named() -> None:
    topology = mesh(AccountSource("t", "T"))
    with pytest.raises(Refused, match=r"no account accounts\.admin for region 'west'"):
        secrets(topology, "west", "admin", {"T": "x"})
    with pytest.raises(Refused, match="no region 'north'"):
        secrets(topology, "north", "tail", {"T": "x"})
    with pytest.raises(Refused, match="no source"):
        secrets(mesh(AccountSource("t")), "west", "tail", {})
