"""Jaeger's query API, as far as the tests ask it."""

import json
import urllib.parse
import urllib.request
from typing import Any, NamedTuple


class Span(NamedTuple):
    """A span as Jaeger shows it; ``parent`` is empty for a root."""

    id: str
    parent: str
    name: str
    region: str
    tags: dict[str, Any]

    @property
    def operation(self) -> str:
        return self.name.split(" ")[0]


class Jaeger(NamedTuple):
    """``endpoint`` takes OTLP over HTTP, ``query`` answers questions."""

    endpoint: str
    query: str

    def traces(self, **tags: str) -> dict[str, list[Span]]:
        """The traces of meshnode, by id, with a span that has these tags (dots as ``__``)."""
        wanted = {name.replace("__", "."): value for name, value in tags.items()}
        asked = urllib.parse.urlencode(
            {"service": "meshnode", "tags": json.dumps(wanted), "limit": 100}
        )
        with urllib.request.urlopen(f"{self.query}/api/traces?{asked}", timeout=20) as answer:
            found = json.load(answer)["data"]
        return {
            trace["traceID"]: [_span(span, trace) for span in trace["spans"]] for trace in found
        }


def _span(span: dict[str, Any], trace: dict[str, Any]) -> Span:
    process = trace["processes"][span["processID"]]
    region = next(tag["value"] for tag in process["tags"] if tag["key"] == "service.instance.id")
    parent = next(
        (each["spanID"] for each in span["references"] if each["refType"] == "CHILD_OF"), ""
    )
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    return Span(span["spanID"], parent, span["operationName"], region, tags)
