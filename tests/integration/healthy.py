"""Regions as an operator should have them: installed, with three accounts of least privilege."""

import os
from contextlib import AsyncExitStack

import msgspec
from regions import control, run, topology_of

from meshnode.accounts import Account
from meshnode.ops import grants
from meshnode.ops.doctor import Finding, Level
from meshnode.ops.install import init
from meshnode.topology import Accounts, AccountSource, Topology

ACCOUNTS = {
    role: Account(f"mesh_{role}", f"secret {role} '%\\") for role in ("tail", "apply", "admin")
}


def with_accounts(topology: Topology) -> Topology:
    """``topology`` with an account for each role, and the passwords where it looks for them."""
    for role, account in ACCOUNTS.items():
        os.environ[f"MESH_{role.upper()}"] = account.password
    sources = {
        role: AccountSource(user=account.user, password_env=f"MESH_{role.upper()}")
        for role, account in ACCOUNTS.items()
    }
    return msgspec.structs.replace(topology, accounts=Accounts(**sources))


async def healthy(stack: AsyncExitStack, servers, *tables: str, also: str = "") -> tuple:
    """Regions as an operator should have them: (topology, sessions as administrator)."""
    topology = with_accounts(topology_of(servers, *tables))
    sessions = []
    for number, server in enumerate(servers, start=1):
        one = await stack.enter_async_context(await control(server))
        sessions.append(one)
        await run(
            one,
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
            f"SET GLOBAL auto_increment_increment = {len(servers)}",
            f"SET GLOBAL auto_increment_offset = {number}",
            *filter(None, also.split(";")),
        )
        await grants.create_accounts(one, ACCOUNTS, ["app"])
    await init(topology)
    return topology, sessions


def faults(findings: list[Finding]) -> list[Finding]:
    """All findings that are not ok."""
    return [finding for finding in findings if finding.level is not Level.OK]
