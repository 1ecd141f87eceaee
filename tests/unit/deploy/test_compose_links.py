"""The links of the Compose lab: what toxiproxy is told when regions are cut off and healed.

The proxy here is a small server with toxiproxy's rules: a toxic that is there is refused
(409), one that is not there cannot be removed (404).
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from meshnode.errors import Refused

LAB = Path(__file__).resolve().parents[3] / "deploy/compose"


class Proxy(ThreadingHTTPServer):
    """A toxiproxy with one proxy called ``kafka``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.enabled = True
        self.toxics: dict[str, dict] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def passes(self) -> bool:
        """Whether bytes get through."""
        return self.enabled and not any(toxic["type"] == "timeout" for toxic in self.each)

    @property
    def each(self) -> list[dict]:
        return list(self.toxics.values())


class Handler(BaseHTTPRequestHandler):
    """The part of toxiproxy's interface that the lab uses."""

    server: Proxy

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/proxies/kafka":
            self.server.enabled = body["enabled"]
            self.send(200)
        elif self.path != "/proxies/kafka/toxics":
            self.send(404)
        elif body["name"] in self.server.toxics:
            self.send(409)
        else:
            self.server.toxics[body["name"]] = body
            self.send(200)

    def do_DELETE(self) -> None:
        name = self.path.removeprefix("/proxies/kafka/toxics/")
        self.send(404 if self.server.toxics.pop(name, None) is None else 204)

    def send(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def links(monkeypatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(LAB / "tools"))
    import links

    yield links


@pytest.fixture
def proxies(links, monkeypatch) -> Iterator[dict[str, Proxy]]:
    found = {name: Proxy() for name in ("frankfurt", "tokyo", "sydney")}
    monkeypatch.setattr(
        links.Link, "of", classmethod(lambda cls, name: cls(name, found[name].base))
    )
    yield found
    for proxy in found.values():
        proxy.shutdown()
        proxy.server_close()


def test_regions_are_cut_in_two_ways_and_the_others_are_not(links, proxies):
    links.cut(["tokyo", "sydney"])
    assert not proxies["tokyo"].enabled
    assert proxies["sydney"].enabled and not proxies["sydney"].passes
    assert {toxic["stream"] for toxic in proxies["sydney"].each} == {"upstream", "downstream"}
    assert proxies["frankfurt"].passes


def test_healing_gives_back_what_was_cut_and_keeps_the_latency(links, proxies):
    names = list(proxies)
    links.latency(names)
    links.cut(["tokyo", "sydney"])
    links.cut(["tokyo", "sydney"])
    links.heal(names)
    links.heal(names)
    assert all(proxy.passes for proxy in proxies.values())
    assert {toxic["type"] for toxic in proxies["sydney"].each} == {"latency"}
    assert len(proxies["sydney"].toxics) == 2


def test_a_link_may_be_given_another_latency(links, proxies):
    links.latency(["frankfurt", "tokyo"])
    assert not proxies["frankfurt"].toxics
    link = links.Link.of("tokyo")
    link.delay(7)
    assert [toxic["attributes"]["latency"] for toxic in proxies["tokyo"].each] == [7, 7]


def test_a_link_that_does_not_answer_is_named(links, proxies):
    proxies["tokyo"].shutdown()
    proxies["tokyo"].server_close()
    with pytest.raises(Refused, match="link-tokyo cannot be asked"):
        links.cut(["tokyo"])


def test_an_answer_that_nobody_expects_is_named(links, proxies):
    link = links.Link("tokyo", proxies["tokyo"].base + "/elsewhere")
    with pytest.raises(Refused, match=r"link-tokyo answers POST .* with 404"):
        link.refuse()


def test_only_regions_of_the_mesh_can_be_cut(links, proxies, monkeypatch):
    monkeypatch.setenv("MESHNODE_TOPOLOGY", str(LAB / "topology/mesh.toml"))
    with pytest.raises(SystemExit, match=r"usage: .*saopaulo"):
        links.main(["cut", "atlantis"])
    with pytest.raises(SystemExit, match="usage"):
        links.main(["cut"])
    links.main(["cut", "tokyo"])
    assert not proxies["tokyo"].enabled
