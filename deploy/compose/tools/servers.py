"""The MySQL servers of the Compose lab, as its root and as the load and the checker want them."""

import os
from dataclasses import dataclass, field
from typing import Any

import pymysql

from meshnode import accounts
from meshnode.errors import Refused
from meshnode.topology import Region, Topology, load

ROOT_PASSWORD = "MYSQL_ROOT_PASSWORD"
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Server:
    """The MySQL of one region, reached as root over the network."""

    server_id: int
    host: str
    port: int
    password: str = field(repr=False)
    user: str = "root"

    @property
    def running(self) -> bool:
        """Whether a client can log in now."""
        try:
            self.connect().close()
        except pymysql.MySQLError:
            return False
        return True

    def connect(self) -> Any:
        """A blocking connection, in autocommit; the caller closes it."""
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            connect_timeout=CONNECT_SECONDS,
            autocommit=True,
        )


def topology() -> Topology:
    """The mesh of this lab, from the file that its nodes read."""
    return load(os.environ["MESHNODE_TOPOLOGY"])


def root() -> accounts.Account:
    """The login that may make accounts."""
    password = os.environ.get(ROOT_PASSWORD)
    if not password:
        raise Refused(f"{ROOT_PASSWORD} is not set", "start the lab with `make compose-up`")
    return accounts.Account("root", password)


def server(region: Region) -> Server:
    """The server of ``region``."""
    login = root()
    return Server(region.id, region.mysql.host or "", region.mysql.port, login.password, login.user)
