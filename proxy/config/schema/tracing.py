"""What a user may write under ``tracing``: where traces go, and how many requests are recorded."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from ..syntax.faults import Wrong, shown
from ..syntax.kinds import word
from ..syntax.sections import Field, Section, section

# Where collectors take traces (OpenTelemetry's protocol, OTLP/HTTP).
_PATH = "/v1/traces"


def _parse_collector(text: str) -> str:
    parts = urlsplit(text)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username or not text.isascii():
        raise Wrong(f"{shown(text)} is no address of a collector", "write http://127.0.0.1:4318")
    return text


def _parse_sample(text: str) -> float:
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?) ?%", text)
    if not found or not 0 <= float(found[1]) <= 100:
        raise Wrong(f"{shown(text)} is not a part of all requests", "write it like 1% or 0.1%")
    return float(found[1]) / 100


def _parse_service(text: str) -> str:
    if not (0 < len(text) <= 100 and text.isprintable()):
        raise Wrong(f"{shown(text)} is no name of a service", "use a few visible characters")
    return text


@section
class Tracing(Section):
    """Traces of requests, by W3C Trace Context and OpenTelemetry."""

    other_words = dict.fromkeys(
        ("endpoint", "url", "collector", "exporter", "address"), "here that is otlp: URL"
    )

    otlp: Annotated[str, word(_parse_collector)] = Field(
        description="A collector that takes OTLP over HTTP, like http://127.0.0.1:4318."
    )
    sample: Annotated[float, word(_parse_sample)] = Field(
        default=0.01, description="Of all requests, how many are recorded; trusted proxies decide."
    )
    service: Annotated[str, word(_parse_service)] = Field(
        default="treehouse-proxy", description="What the collector calls this server."
    )

    @property
    def endpoint(self) -> str:
        """The URL that batches are sent to."""
        return self.otlp if urlsplit(self.otlp).path.strip("/") else self.otlp.rstrip("/") + _PATH
