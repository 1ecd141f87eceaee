"""What carries the streams of a mesh under test: a folder, or one real Kafka for the session.

``pytest --bus kafka`` runs the same tests over Kafka.  All of them share a broker; each mesh
has a name of its own there, so that no test meets the topics of another.
"""

import atexit
import itertools
import shutil
import tempfile
from pathlib import Path

from meshnode.lab.broker import Broker
from meshnode.lab.kafka_jars import find_kafka
from meshnode.topology import Bus, Kafka, Wan

kind = "file"
"""Set from the command line before the first test."""

_broker: Broker | None = None
_numbers = itertools.count(1)


def carrier(folder: Path, control: Path) -> tuple[str, Bus]:
    """The name of a new mesh and its ``[bus]``; its links obey the file ``control``."""
    wan = Wan(str(control))
    if kind == "file":
        return "test", Bus(kind="file", dir=str(folder / "bus"), wan=wan)
    kafka = Kafka(bootstrap=(broker().bootstrap,), replication_factor=1, min_insync_replicas=1)
    return f"test-{next(_numbers)}", Bus(kind="kafka", kafka=kafka, wan=wan)


def broker() -> Broker:
    """The session's broker, running."""
    global _broker
    if _broker is None:
        folder = Path(tempfile.mkdtemp(prefix="meshnode-kafka-"))
        _broker = Broker(find_kafka(), folder, die_with_parent=True)
        atexit.register(_end, _broker, folder)
    if not _broker.running:
        _broker.start()
    return _broker


def _end(broker: Broker, folder: Path) -> None:
    broker.kill()
    shutil.rmtree(folder, ignore_errors=True)
