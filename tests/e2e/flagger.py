"""Flagger's built-in metric checks, as fluxcd/flagger renders and sends them (pkg/metrics/observers, 1.44).

`smi:v1alpha1`, `smi:v1alpha2` and `smi:v1alpha3` have no observer of their own: Flagger's factory falls
back to Istio's. White space is collapsed as Flagger does before it asks (providers/prometheus.go).
"""

from __future__ import annotations

from typing import Final

_ISTIO: Final = (
    'reporter="destination", destination_workload_namespace="{namespace}", destination_workload=~"{target}"'
)
_LINKERD: Final = 'namespace="{namespace}", deployment=~"{target}", {success}direction="inbound"'
_OSM: Final = (
    'destination_namespace="{namespace}", destination_kind="Deployment", destination_name="{target}"'
)
_RATE: Final = (
    "sum( rate( {counter}{{ {succeeded} }}[{interval}] ) )"
    " / sum( rate( {counter}{{ {every} }}[{interval}] ) ) * 100"
)
_QUANTILE: Final = "histogram_quantile( 0.99, sum( rate( {histogram}{{ {labels} }}[{interval}] ) ) by (le) )"
_OBSERVERS: Final = {
    "istio": (
        ("istio_requests_total", f'{_ISTIO}, response_code!~"5.*"', _ISTIO),
        ("istio_request_duration_milliseconds_bucket", _ISTIO),
    ),
    "linkerd": (
        (
            "response_total",
            _LINKERD.replace("{success}", 'classification!="failure", '),
            _LINKERD.replace("{success}", ""),
        ),
        ("response_latency_ms_bucket", _LINKERD.replace("{success}", "")),
    ),
    "osm": (
        ("osm_request_total", f'{_OSM}, response_code!~"5.*"', _OSM),
        ("osm_request_duration_ms_bucket", _OSM),
    ),
}
PROVIDERS: Final = {
    "smi:v1alpha1": "istio",
    "smi:v1alpha2": "istio",
    "smi:v1alpha3": "istio",
    "istio": "istio",
    "linkerd": "linkerd",
    "osm": "osm",
}
"""Provider of a Canary → whose queries Flagger sends."""


def success_rate(provider: str, namespace: str, target: str, interval: str = "1m") -> str:
    """`request-success-rate`: percent."""
    counter, succeeded, every = _OBSERVERS[PROVIDERS[provider]][0]
    query = _RATE.format(counter=counter, succeeded=succeeded, every=every, interval=interval)
    return query.replace("{namespace}", namespace).replace("{target}", target)


def duration(provider: str, namespace: str, target: str, interval: str = "1m") -> str:
    """`request-duration`: the 99th percentile in milliseconds."""
    histogram, labels = _OBSERVERS[PROVIDERS[provider]][1]
    query = _QUANTILE.format(histogram=histogram, labels=labels, interval=interval)
    return query.replace("{namespace}", namespace).replace("{target}", target)
