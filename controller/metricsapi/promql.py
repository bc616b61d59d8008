"""The same rows from a Prometheus that scrapes the sidecars: the query, and how to read its answer. Pure.

Asked in Istio's standard metrics, which our sidecars speak by default and every dashboard knows. They name
workloads, not pods, at the other side, and no TrafficSplit: edges between pods stay unnamed, and a split's
rows are told by the backend Service that was called.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from controller.metricsapi.samples import INBOUND, OUTBOUND, Peer, Row, Samples, SamplesError, Tally
from smi.names import NamespacedName, Workload

WINDOW_SECONDS: Final = 60
"""Two scrapes at the usual interval must lie in it."""
_BY: Final = (
    "namespace",
    "pod",
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "destination_workload",
    "destination_workload_namespace",
    "destination_service_name",
    "destination_service_namespace",
    "response_code",
    "grpc_response_status",
    "le",
)
QUERY: Final = (
    f"sum by ({','.join(_BY)}) "
    f"(increase(istio_request_duration_milliseconds_bucket{{reporter!=''}}[{WINDOW_SECONDS}s]))"
)
_GRPC_FAILURES: Final = frozenset({"2", "4", "7", "13", "14", "15", "other"})
"""As the sidecars count (S30)."""
_UNKNOWN: Final = ("", "unknown")


def read_vector(document: Any) -> list[Samples]:
    """Samples by pod from the answer of `/api/v1/query` (parsed JSON). Raises SamplesError."""
    data = document.get("data") if isinstance(document, dict) else None
    result = data.get("result") if isinstance(data, dict) and data.get("resultType") == "vector" else None
    if not isinstance(result, list):
        raise SamplesError("expected an instant vector")
    series: dict[tuple[str, ...], dict[float, float]] = {}
    for one in result:
        labels, value = _pair(one)
        series.setdefault(tuple(labels.get(name, "") for name in _BY[:-1]), {})[_bound(labels)] = value
    by_pod: dict[NamespacedName, list[Row]] = {}
    for values, cumulative in series.items():
        labels = dict(zip(_BY, values, strict=False))
        # Empty buckets are asked for too: each is the lower bound of the next.
        if labels["namespace"] and labels["pod"] and round(max(cumulative.values())):
            pod = NamespacedName(labels["namespace"], labels["pod"])
            by_pod.setdefault(pod, []).append(_row(labels, cumulative))
    return [Samples(pod, tuple(rows)) for pod, rows in sorted(by_pod.items())]


def _pair(one: Any) -> tuple[Mapping[str, str], float]:
    try:
        labels, value = one["metric"], float(one["value"][1])
    except (TypeError, KeyError, IndexError, ValueError):
        raise SamplesError("a sample must have a metric and a value") from None
    if not isinstance(labels, dict) or not math.isfinite(value):
        raise SamplesError("a sample must have labels and a finite value")
    return labels, max(value, 0.0)


def _bound(labels: Mapping[str, str]) -> float:
    try:
        return float(labels["le"])
    except (KeyError, ValueError):
        raise SamplesError("a bucket must have the label le") from None


def _row(labels: Mapping[str, str], cumulative: Mapping[float, float]) -> Row:
    inbound = labels["reporter"] == "destination"
    far = "source" if inbound else "destination"
    namespace, workload = labels[f"{far}_workload_namespace"], labels[f"{far}_workload"]
    service = ""
    if not inbound and labels["destination_service_name"] not in _UNKNOWN:
        service = f"{labels['destination_service_namespace']}/{labels['destination_service_name']}"
    count = round(max(cumulative.values()))
    return Row(
        direction=INBOUND if inbound else OUTBOUND,
        service=service,
        backend=service,
        split="",
        peer=Peer(
            namespace="" if namespace in _UNKNOWN else namespace,
            workload=Workload(name="" if workload in _UNKNOWN else workload),
        ),
        tally=_tally(count, _failed(labels), cumulative),
    )


def _failed(labels: Mapping[str, str]) -> bool:
    code = labels["response_code"]
    return code.startswith("5") or code == "0" or labels["grpc_response_status"] in _GRPC_FAILURES


def _tally(count: int, failed: bool, cumulative: Mapping[float, float]) -> Tally:
    """`increase` extrapolates to fractions of requests: buckets are rounded where they add up."""
    buckets: dict[float, int] = {}
    before = 0
    for bound in sorted(cumulative):
        now = max(before, round(cumulative[bound]))
        buckets[bound], before = now - before, now
    return Tally(0 if failed else count, count if failed else 0, buckets)


def chosen(samples: Iterable[Samples], pods: Iterable[NamespacedName]) -> tuple[Samples, ...]:
    """Those of the pods asked for."""
    wanted = frozenset(pods)
    return tuple(one for one in samples if one.pod in wanted)
