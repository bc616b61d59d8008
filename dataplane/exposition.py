"""What a scrape is answered with: which dialects, in which format.

A scrape may ask for dialects (`/metrics?dialects=linkerd,osm`) and for OpenMetrics (Accept). The
page is written step by step, so that a large one does not keep requests waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from dataplane.dialects.istio import Istio
from dataplane.dialects.linkerd import Linkerd
from dataplane.dialects.osm import Osm
from dataplane.page import OPENMETRICS_TYPE, TEXT_TYPE, Page
from dataplane.telemetry import Own, Telemetry
from smi.names import METRICS_DIALECTS, NO_METRICS, metrics_dialects


class Dialect(Protocol):
    """Writes the counters under its names."""

    def write(self, page: Page, telemetry: Telemetry, own: Own, /) -> Iterator[None]: ...


class Smi:
    """Our own families."""

    def write(self, page: Page, telemetry: Telemetry, _own: Own, /) -> Iterator[None]:
        return telemetry.write(page)


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer in the making: `body` when `steps` is used up."""

    content_type: str
    steps: Iterator[None]
    body: Callable[[], bytes]


class Exposition:
    """Answers scrapes. `own` is asked each time; `usual` are the dialects of a scrape that names none."""

    def __init__(
        self, telemetry: Telemetry, own: Callable[[], Own], cluster_domain: str, usual: Sequence[str]
    ) -> None:
        self._telemetry = telemetry
        self._own = own
        self._usual = tuple(usual)
        self._dialects: dict[str, Dialect] = {
            "istio": Istio(cluster_domain),
            "linkerd": Linkerd(cluster_domain),
            "osm": Osm(),
            "smi": Smi(),
        }
        assert self._dialects.keys() == set(METRICS_DIALECTS)

    def scrape(self, wanted: str, accept: str) -> Scrape:
        """`wanted`: names with commas, "" for the usual ones; `accept`: the field's value.

        Raises ValueError for a name that is no dialect's.
        """
        names = metrics_dialects(wanted) if wanted else self._usual
        if names == (NO_METRICS,):
            names = ("smi",)  # what else there is to say
        page = Page(openmetrics=prefers_openmetrics(accept))
        kind = OPENMETRICS_TYPE if page.openmetrics else TEXT_TYPE
        return Scrape(kind, self._write(page, names), page.bytes)

    def _write(self, page: Page, names: Sequence[str]) -> Iterator[None]:
        own = self._own()
        for name in names:
            yield from self._dialects[name].write(page, self._telemetry, own)
        page.end()


_OPENMETRICS: Final = "application/openmetrics-text"


def prefers_openmetrics(accept: str) -> bool:
    """Whether an Accept field (RFC 9110 §12.5.1) asks for OpenMetrics 1.0 at least as much as for text."""
    openmetrics, text = 0.0, 0.0
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality, version = 1.0, "1.0.0"
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                quality = _quality(value)
            elif name == "version":
                version = value
        if kind == _OPENMETRICS and version == "1.0.0":
            openmetrics = max(openmetrics, quality)
        elif kind == "text/plain":
            text = max(text, quality)
    return openmetrics > 0 and openmetrics >= text


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
