"""What load, demo and checker ask of a lab, wherever its servers are.

A :class:`meshnode.lab.cluster.Cluster` is one: processes of this machine, and links that a
control file cuts.  Containers behind a proxy are another.
"""

from typing import Any, Protocol

from meshnode.topology import Topology


class Target(Protocol):
    """A MySQL server that a client can be pointed at; ``server_id`` is its region's id."""

    @property
    def server_id(self) -> int: ...

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def user(self) -> str: ...

    @property
    def password(self) -> str: ...

    @property
    def running(self) -> bool: ...

    def connect(self) -> Any:
        """A blocking connection (pymysql) in autocommit; the caller closes it."""
        ...


class Stage(Protocol):
    """A mesh with its servers."""

    @property
    def topology(self) -> Topology: ...

    @property
    def names(self) -> list[str]: ...

    def server(self, region: str) -> Target:
        """The MySQL server of the region."""
        ...

    def isolate(self, regions: list[str]) -> None:
        """Cut these regions off from all others."""
        ...

    def heal(self) -> None:
        """Give all links back."""
        ...
