"""The links between the regions and Kafka: cut them, heal them, make them long.

Theory of operation.  Each region's node reaches the broker through a toxiproxy of its own,
``link-NAME``, whose HTTP interface this module talks to.  A link is cut in one of two
ways, as networks fail: *refused* (connections break and new ones are refused) or
*silent* (connections stay, and nothing comes through).  Latency is a toxic of its own and
stays through cuts.

    links.py cut tokyo sydney     the first is refused, the second silent, and so on
    links.py heal
    links.py latency              what a signal takes from each region to a broker in Frankfurt
"""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

import servers

from meshnode.errors import MeshError, Refused
from meshnode.lab.wan import default_latency

PORT = 8474
PROXY = "kafka"
BROKER_AT = "frankfurt"
ASK_SECONDS = 5.0
STREAMS = ("upstream", "downstream")


@dataclass(frozen=True)
class Link:
    """The link of one region; ``base`` is where its interface listens."""

    region: str
    base: str

    @classmethod
    def of(cls, region: str) -> "Link":
        return cls(region, f"http://link-{region}:{PORT}")

    def refuse(self) -> None:
        """Break all connections and refuse new ones."""
        self._ask("POST", f"/proxies/{PROXY}", {"enabled": False})

    def silence(self) -> None:
        """Let nothing through in either direction; connections stay open."""
        for stream in STREAMS:
            self._toxic("silence", "timeout", stream, {"timeout": 0})

    def heal(self) -> None:
        """Undo both."""
        for stream in STREAMS:
            self._remove("silence", stream)
        self._ask("POST", f"/proxies/{PROXY}", {"enabled": True})

    def delay(self, milliseconds: int) -> None:
        """Make every packet take so long, in either direction."""
        for stream in STREAMS:
            self._remove("delay", stream)
            self._toxic("delay", "latency", stream, {"latency": milliseconds})

    def _toxic(self, name: str, kind: str, stream: str, attributes: dict[str, int]) -> None:
        toxic = {"name": f"{name}_{stream}", "type": kind, "stream": stream}
        self._ask("POST", f"/proxies/{PROXY}/toxics", {**toxic, "attributes": attributes}, 409)

    def _remove(self, name: str, stream: str) -> None:
        self._ask("DELETE", f"/proxies/{PROXY}/toxics/{name}_{stream}", None, 404)

    def _ask(self, method: str, path: str, body: object, accepted: int = 0) -> None:
        """``accepted`` is an answer that means: it is so already."""
        request = urllib.request.Request(
            self.base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            urllib.request.urlopen(request, timeout=ASK_SECONDS).close()
        except urllib.error.HTTPError as error:
            if error.code != accepted:
                raise Refused(
                    f"link-{self.region} answers {method} {path} with {error.code}: "
                    f"{error.read(200).decode(errors='replace')}",
                    f"look at `lab logs link-{self.region}`",
                ) from None
        except OSError as error:
            raise Refused(
                f"link-{self.region} cannot be asked: {error}",
                f"look at `lab ps link-{self.region}`",
            ) from None


def cut(regions: Sequence[str]) -> None:
    """Cut the links of ``regions``: refused and silent by turns."""
    for number, region in enumerate(regions):
        link = Link.of(region)
        if number % 2:
            link.silence()
        else:
            link.refuse()


def heal(regions: Sequence[str]) -> None:
    """Give the links of ``regions`` back."""
    for region in regions:
        Link.of(region).heal()


def latency(regions: Sequence[str]) -> None:
    """Give each link the latency between its region and the broker's site."""
    between = default_latency(regions)
    for region in regions:
        if region != BROKER_AT:
            Link.of(region).delay(round(between[region, BROKER_AT]))


def main(arguments: Sequence[str]) -> None:
    """Do what the command line says; SystemExit where it is wrong."""
    names = [region.name for region in servers.topology().regions]
    match arguments:
        case ["cut", *wanted] if wanted and set(wanted) <= set(names):
            cut(wanted)
        case ["heal"]:
            heal(names)
        case ["latency"]:
            latency(names)
        case _:
            sys.exit(f"usage: links.py cut NAME... | heal | latency    (of {', '.join(names)})")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except MeshError as error:
        sys.exit(f"links: {error}")
