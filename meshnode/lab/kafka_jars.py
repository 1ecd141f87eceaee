"""Fetching Apache Kafka as an ordinary user, from Maven Central.

Theory of operation.  Maven resolves Kafka's own artifacts with everything that
they need and copies the jars into one folder of the cache; a broker is then
``java -cp 'folder/*' kafka.Kafka``.  Versions are pinned, and Maven checks the
checksums of what it downloads.  A Kafka unpacked by the user comes first:
``MESHNODE_KAFKA`` names its folder.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from meshnode.errors import Refused
from meshnode.lab.cache import build_once, cache_folder
from meshnode.lab.fetch import run_to_end, say

KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.4"
ZSTD_VERSION = "1.5.6-10"
OLDEST_JAVA = 17

_POM = """<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>meshnode</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    {dependencies}
  </dependencies>
</project>
"""
_DEPENDENCIES = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.kafka", "kafka-server", KAFKA_VERSION),
    ("org.apache.kafka", "kafka-tools", KAFKA_VERSION),
    ("org.apache.kafka", "kafka-clients", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
    ("com.github.luben", "zstd-jni", ZSTD_VERSION),
)


class Kafka(NamedTuple):
    """A Kafka that can be started: the folder with its jars, and the ``java`` to run it."""

    jars: Path
    java: str
    version: str

    def command(self, main_class: str, *options: str) -> list[str]:
        """The command line that runs ``main_class`` with the JVM ``options``."""
        return [self.java, *options, "-cp", f"{self.jars}/*", main_class]


def find_kafka() -> Kafka:
    """The Kafka named by ``MESHNODE_KAFKA`` (a folder with ``libs``), else the fetched one.

    Raises ``Refused`` where Java 17, Maven or the network is absent.
    """
    java = _java()
    named = os.environ.get("MESHNODE_KAFKA")
    if named:
        jars = Path(named).expanduser().absolute() / "libs"
        found = sorted(jars.glob("kafka-clients-*.jar"))
        if not found:
            raise Refused(
                f"MESHNODE_KAFKA: {jars} holds no kafka-clients-*.jar",
                "name the folder into which a Kafka release was unpacked",
            )
        version = found[0].stem.removeprefix("kafka-clients-")
        return Kafka(jars, java, version)
    jars = build_once(cache_folder() / f"kafka-{KAFKA_VERSION}", _fetch)
    return Kafka(jars, java, KAFKA_VERSION)


def why_no_kafka() -> str | None:
    """What is missing on this machine to run a Kafka; None when nothing is."""
    try:
        _java()
    except Refused as refused:
        return str(refused)
    fetched = (cache_folder() / f"kafka-{KAFKA_VERSION}").is_dir()
    if not fetched and not os.environ.get("MESHNODE_KAFKA") and shutil.which("mvn") is None:
        return "Maven (mvn) is absent, so Apache Kafka cannot be fetched"
    return None


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    if java is None or not os.access(java, os.X_OK):
        raise Refused(
            "no Java is here, and Kafka needs one",
            f"install Java {OLDEST_JAVA} or newer (Debian: openjdk-17-jre-headless)",
        )
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found[1]) < OLDEST_JAVA:
        raise Refused(
            f"{java} is Java {found[1] if found else 'of unknown version'}, Kafka needs "
            f"{OLDEST_JAVA}",
            f"install Java {OLDEST_JAVA} or newer and let JAVA_HOME name it",
        )
    return java


def _fetch(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise Refused(
            "Maven (mvn) is absent, so Apache Kafka cannot be fetched",
            "install maven, or let MESHNODE_KAFKA name the folder of an unpacked Kafka release",
        )
    say(f"downloading Apache Kafka {KAFKA_VERSION} with Maven (about 120 MB)")
    pom = folder / "pom.xml"
    pom.write_text(
        _POM.format(
            dependencies="\n    ".join(
                f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
                f"<version>{version}</version></dependency>"
                for group, name, version in _DEPENDENCIES
            )
        )
    )
    run_to_end(
        [
            *("mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"),
            *("-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
        ],
        "Kafka",
    )
