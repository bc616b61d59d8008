"""Pages as a scraper reads them."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dataplane.exposition import Exposition
from dataplane.telemetry import Own, Telemetry

WEB = "spiffe://cluster.local/ns/shop/sa/web"
API = "spiffe://cluster.local/ns/shop/sa/api"
OWN = Own("shop/api-6d4cf56db6-x7x2p", "Deployment/api/api/v1", API)
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def scrape(telemetry: Telemetry, dialects: str, accept: str = "", own: Own = OWN) -> dict[str, Metric]:
    """Families by name, each parsed strictly by the official parser of the format."""
    text = page(telemetry, dialects, accept, own)
    parse = parse_openmetrics if accept else parse_text
    families = list(parse(text))
    assert len({family.name for family in families}) == len(families), "each family appears once"
    return {family.name: family for family in families}


def page(telemetry: Telemetry, dialects: str, accept: str = "", own: Own = OWN) -> str:
    exposition = Exposition(telemetry, lambda: own, "cluster.local", ("smi",))
    scrape = exposition.scrape(dialects, accept)
    for _ in scrape.steps:
        pass
    return scrape.body().decode()


def value(family: Metric, name: str, **labels: str) -> float:
    """The one sample of that name whose labels include these."""
    found = [
        sample for sample in family.samples if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, f"{name}{labels} in {family.samples}"
    return float(found[0].value)
