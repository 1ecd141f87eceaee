"""Every error the node can meet belongs to one of five reactions.

``Retry`` is transient: the supervisor restarts the actor with backoff, for
ever, visibly.  ``RowError`` concerns one row that can never apply: it goes to
``meshnode.dead_letter`` and the stream goes on.  ``Halt`` stops one stream: it
waits, says why and what to do, is tried again at leisure, and loses nothing.
``Fatal`` is the one halt that ends the process.  ``Refused`` turns a command or a
start down; an actor that meets it is halted.

Adapters translate driver errors into these and never retry themselves.
"""

DUPLICATE = 1062
"""MySQL's number for a unique value that another row has."""


class MeshError(Exception):
    """Base of all errors of the mesh; never raised itself.

    ``what`` says what happened and names the thing (file, key, table, peer);
    ``remedy`` says what the operator can do, or is empty where nothing is
    needed.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; remedy: {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class Retry(MeshError):
    """Transient: the same work will succeed later, unchanged.

    ``code`` is MySQL's number where it may mean that it will not, else 0.
    """

    def __init__(self, what: str, remedy: str = "", code: int = 0) -> None:
        super().__init__(what, remedy)
        self.code = code


class Busy(Retry):
    """A row is locked by somebody else: split the batch and try again.

    ``waited``: for as long as the session waits; otherwise the server said so at once.
    """

    def __init__(self, what: str, remedy: str = "", waited: bool = False) -> None:
        super().__init__(what, remedy)
        self.waited = waited


class Replan(Retry):
    """The rows changed between the look and the write: roll back, look again."""


class RowError(MeshError):
    """This row can never be applied here as the schema stands: ``code`` is MySQL's number."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(what)
        self.code = code

    @property
    def duplicate(self) -> bool:
        """Whether another row has the unique value."""
        return self.code == DUPLICATE


class Halt(MeshError):
    """This stream cannot go on without an operator; nothing is lost."""


class OtherKey(Halt):
    """The tombstone table of ``title`` does not have the key that the table has now."""

    def __init__(self, title: str) -> None:
        super().__init__(
            f"the tombstone table of {title} does not have its key",
            "run `meshnode init` for this region; the stream then goes on by itself",
        )


class Stopped(Halt):
    """A transaction that cannot be published, however often it is read: ``tx_id`` of ``region``.

    Only an operator's word lets the stream go past it.
    """

    def __init__(self, region: str, tx_id: str, what: str) -> None:
        super().__init__(
            f"transaction {tx_id or 'without GTID'} {what}",
            "see docs/OPERATING.md, 'What stops a stream'; to leave it out: "
            f"meshnode skip --region {region} --tx {tx_id}",
        )
        self.tx_id = tx_id


class Fatal(Halt):
    """The process must end: going on could only do harm."""


class Fenced(Fatal):
    """Another process has taken over this region: this one must stop."""


class Refused(MeshError):
    """A command or a start was refused because of its input, or of what it found."""


class LostCommits(Refused):
    """A server no longer has transactions that ``region`` has published; ``what`` of them."""

    def __init__(self, server: str, region: str, what: str) -> None:
        super().__init__(
            f"{server} has lost commits that {region} has published: {what}",
            "docs/OPERATING.md, 'A server that lost commits': its peers have them",
        )
