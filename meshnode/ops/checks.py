"""What a check of the doctor is: a name, what it looks at, and a function.

A check examines one region and answers with findings; no finding means that
all is well.  ``refuse`` means that a node must not run: rows would be lost, torn or
never found.  ``warn`` means that it works, and that the operator should know.
Every finding names its subject (table, variable, account), says what was found and
what to do about it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from meshnode.mysql.catalog import Table
from meshnode.mysql.control import Control
from meshnode.topology import Region, Topology


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    REFUSE = "refuse"


class Finding(msgspec.Struct, frozen=True):
    """One answer of a check; ``subject`` is the table, variable or account, or empty."""

    check: str
    level: Level
    region: str
    subject: str
    finding: str
    remedy: str = ""

    def __str__(self) -> str:
        subject = f" {self.subject}:" if self.subject else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.region}: {self.level}: {self.check}:{subject} {self.finding}{remedy}"


@dataclass(slots=True)
class TriggerRow:
    """A trigger as ``information_schema`` has it, in the order in which it fires."""

    name: str
    timing: str
    event: str
    body: str
    sql_mode: frozenset[str]
    definer: str


@dataclass(slots=True)
class Context:
    """Everything that was read of one region before the checks ran.

    ``tables`` are those that the topology names, ``tombstones`` their tombstone
    tables, ``triggers`` all triggers on them, all by ``(schema, table)``; ``active``
    are the names in ``meshnode.tables``; ``bookkeeping`` the columns of the tables of
    ``meshnode``.  ``grants`` are the lines of SHOW GRANTS by role.  ``lab`` turns missing
    durability and an almighty apply account into warnings.
    """

    topology: Topology
    region: Region
    control: Control
    variables: Mapping[str, str]
    version: tuple[int, ...]
    tables: dict[tuple[str, str], Table] = field(default_factory=dict)
    tombstones: dict[tuple[str, str], Table | None] = field(default_factory=dict)
    triggers: dict[tuple[str, str], list[TriggerRow]] = field(default_factory=dict)
    active: set[tuple[str, str]] = field(default_factory=set)
    bookkeeping: dict[str, tuple[str, ...]] = field(default_factory=dict)
    grants: dict[str, list[str]] = field(default_factory=dict)
    lab: bool = False

    def finding(
        self, check: str, level: Level, subject: str, finding: str, remedy: str = ""
    ) -> Finding:
        """A finding about this region."""
        return Finding(check, level, self.region.name, subject, finding, remedy)


Function = Callable[[Context], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True)
class Check:
    """``about`` is one line for the list of checks and the documents."""

    name: str
    about: str
    function: Function


REGISTRY: dict[str, Check] = {}


def check(name: str, about: str) -> Callable[[Function], Function]:
    """Register a check under its name."""

    def register(function: Function) -> Function:
        assert name not in REGISTRY, name
        REGISTRY[name] = Check(name, about, function)
        return function

    return register
