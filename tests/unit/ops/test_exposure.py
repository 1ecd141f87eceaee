"""The ops port as the doctor sees it, and where its token comes from."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from meshnode.accounts import ops_token
from meshnode.errors import Refused
from meshnode.ops.checks import Context, Finding, Level
from meshnode.ops.doctor_ops import ops_port
from meshnode.topology import MysqlAddress, OpsAddress, Region


async def found(ops: OpsAddress | None) -> list[Finding]:
    region = Region(1, "one", MysqlAddress("a"), ops=ops)
    return await ops_port(Context(SimpleNamespace(), region, SimpleNamespace(), {}, ()))


async def test_none_or_a_local_one_is_well():
    assert not await found(None)
    for host in ("127.0.0.1", "::1", "localhost"):
        assert not await found(OpsAddress(9464, host))


async def test_one_that_others_reach_without_a_token_is_named():
    (finding,) = await found(OpsAddress(9464, "0.0.0.0"))
    assert (finding.check, finding.level) == ("ops-port", Level.WARN)
    assert "0.0.0.0:9464 can be reached from other machines" in finding.finding
    assert "token_file" in finding.remedy


async def test_a_token_that_cannot_be_read_is_named(tmp_path: Path):
    path = tmp_path / "token"
    (finding,) = await found(OpsAddress(9464, token_file=str(path)))
    assert str(path) in finding.finding
    path.write_text("secret\n")
    path.chmod(0o600)
    assert not await found(OpsAddress(9464, "0.0.0.0", token_file=str(path)))
    path.chmod(0o640)
    assert not await found(OpsAddress(9464, "0.0.0.0", token_file=str(path)))
    path.chmod(0o604)
    (finding,) = await found(OpsAddress(9464, "0.0.0.0", token_file=str(path)))
    assert "others can read" in finding.finding


def test_a_token_is_read_as_a_password_is():
    assert ops_token(OpsAddress(1), "one", {}) == ""
    assert ops_token(OpsAddress(1, token_env="T"), "one", {"T": "secret"}) == "secret"
    with pytest.raises(Refused, match=r"token of the ops port of region 'one'.*T is not set"):
        ops_token(OpsAddress(1, token_env="T"), "one", {})
    with pytest.raises(Refused, match="the token in T is empty"):
        ops_token(OpsAddress(1, token_env="T"), "one", {"T": ""})


def test_who_has_no_token_is_not_told_of_passwords_and_accounts(tmp_path):
    missing, wide, wordy = tmp_path / "none", tmp_path / "wide", tmp_path / "wordy"
    wide.write_text("secret")
    wide.chmod(0o604)
    wordy.write_text("one\ntwo\n")
    wordy.chmod(0o600)
    for ops in (
        OpsAddress(1, token_env="T"),
        OpsAddress(1, token_env="EMPTY"),
        *(OpsAddress(1, token_file=str(path)) for path in (missing, wide, wordy)),
    ):
        with pytest.raises(Refused) as refused:
            ops_token(ops, "one", {"EMPTY": ""})
        told = str(refused.value)
        assert "token" in refused.value.remedy, told
        assert "password" not in told and "account" not in told
