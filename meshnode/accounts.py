"""Passwords of the accounts in MySQL and Kafka, and tokens, read when they are needed.

Theory of operation.  A topology names for each account an environment variable or
a file.  :func:`secrets` reads it when it is asked for, so that a command needs only the
accounts that it uses; a node reads those of its region when it starts, and again when it
is built anew because the topology has changed.  A password that changes in its old place is
read at the next of these.
A file that other users of the machine can read or change is refused: it is no
secret any more.  No error and no ``repr`` shows a password.
"""

import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from meshnode.errors import Refused
from meshnode.topology import AccountSource, OpsAddress, Role, Topology

PASSWORD_FILE_BYTES = 4096
"""A longer password or token file is refused: it must be another file."""


class Account(NamedTuple):
    """A user and its password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Account(user={self.user!r}, password=(not shown))"


def secrets(
    topology: Topology, region: str, role: Role, environment: Mapping[str, str] = os.environ
) -> Account:
    """Return the account ``role`` of the region named ``region``; Refused says what is wrong."""
    source = topology.account_source(region, role)
    return account_of(source, f"account {role} ({source.user!r}) of region {region!r}", environment)


def account_of(
    source: AccountSource, whose: str, environment: Mapping[str, str] = os.environ
) -> Account:
    """Return the user of ``source`` with its password; Refused names ``whose`` it is."""
    if source.password_env is None and source.password_file is None:
        remedy = 'write password_env = "NAME" or password_file = "path"'
        raise Refused(f"{whose} has no source for its password", remedy)
    place = (source.password_env, source.password_file)
    return Account(source.user, _secret(*place, whose, "password", environment))


def ops_token(ops: OpsAddress, region: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the token of the ops port, '' where none is configured; Refused says what is wrong."""
    if ops.token_env is None and ops.token_file is None:
        return ""
    whose = f"the token of the ops port of region {region!r}"
    return _secret(ops.token_env, ops.token_file, whose, "token", environment)


def _secret(
    variable: str | None, file: str | None, whose: str, noun: str, environment: Mapping[str, str]
) -> str:
    """What ``variable`` of the environment or else ``file`` holds; ``noun`` says what it is."""
    place = variable or file
    if variable is not None:
        if variable not in environment:
            raise Refused(
                f"{whose}: environment variable {variable} is not set",
                f"export {variable} with the {noun} where this runs, or use {noun}_file",
            )
        secret = environment[variable]
    else:
        secret = _from_file(str(file), whose, noun)
    if not secret:
        raise Refused(f"{whose}: the {noun} in {place} is empty", f"store the {noun} there")
    if any(character in secret for character in "\n\r\0"):
        remedy = f"store the {noun} alone, on one line"
        raise Refused(f"{whose}: {place} holds more than one line or a NUL", remedy)
    return secret


def _from_file(path: str, whose: str, noun: str) -> str:
    try:
        # O_NONBLOCK: opening a named pipe would otherwise wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        remedy = f"create it with the {noun} alone, readable by the user of this process"
        raise Refused(
            f"{whose}: {noun} file {path} cannot be read: {error.strerror}", remedy
        ) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{whose}: {noun} file {path} is not a file", "name a plain file")
        if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            mode = stat.S_IMODE(status.st_mode)
            raise Refused(
                f"{whose}: {noun} file {path} has mode {mode:04o}: others can read or change it",
                f"chmod 0600 {path}, and change a {noun} that others could read",
            )
        content = os.read(descriptor, PASSWORD_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > PASSWORD_FILE_BYTES:
        remedy = f"name the file that holds the {noun} alone"
        raise Refused(f"{whose}: {noun} file {path} is over {PASSWORD_FILE_BYTES} bytes", remedy)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        remedy = f"store the {noun} as UTF-8 text"
        raise Refused(f"{whose}: {noun} file {path} is not UTF-8", remedy) from None
    return text.removesuffix("\n").removesuffix("\r")
