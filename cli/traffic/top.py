"""Who serves how much, how well and how fast: TrafficMetrics as rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from smi.api.quantity import parse_quantity

ROOT: Final = "/apis/metrics.smi-spec.io/v1alpha1"
RESOURCES: Final[Mapping[str, str]] = {
    "pods": "pods", "pod": "pods", "po": "pods",
    "deployments": "deployments", "deployment": "deployments", "deploy": "deployments",
    "namespaces": "namespaces", "namespace": "namespaces", "ns": "namespaces",
    "services": "services", "service": "services", "svc": "services",
    "splits": "trafficsplits", "split": "trafficsplits", "trafficsplits": "trafficsplits",
    "trafficsplit": "trafficsplits", "ts": "trafficsplits",
    "nodes": "nodes", "node": "nodes", "no": "nodes",
    "daemonsets": "daemonsets", "daemonset": "daemonsets", "ds": "daemonsets",
    "statefulsets": "statefulsets", "statefulset": "statefulsets", "sts": "statefulsets",
    "replicasets": "replicasets", "replicaset": "replicasets", "rs": "replicasets",
    "replicationcontrollers": "replicationcontrollers", "rc": "replicationcontrollers",
    "jobs": "jobs", "job": "jobs",
}  # fmt: skip
"""What a user may type → the plural in the API."""
CLUSTER_WIDE: Final = frozenset({"namespaces", "nodes"})
SORTS: Final = ("name", "rps", "success", "p99")
_NONE: Final = "-"


@dataclass(frozen=True, slots=True)
class Numbers:
    """The metrics of one object. Latencies are in seconds; None where there was no request."""

    success: Fraction
    failure: Fraction
    window: Fraction
    p50: Fraction
    p90: Fraction
    p99: Fraction

    @property
    def total(self) -> Fraction:
        return self.success + self.failure

    @property
    def rate(self) -> float:
        """Requests per second."""
        return float(self.total / self.window) if self.window else 0.0

    @property
    def share(self) -> float:
        """Share that succeeded, 1 if there was none."""
        return float(self.success / self.total) if self.total else 1.0


def numbers(item: Mapping[str, Any]) -> Numbers:
    """From a TrafficMetrics object of any implementation. Raises KeyError, ValueError."""
    values: dict[str, Fraction] = {}
    for one in item["metrics"]:
        # The specification's latencies are in seconds; others have been seen to say `ms`.
        scale = Fraction(1, 1000) if one.get("unit") == "ms" else 1
        values[one["name"]] = parse_quantity(one["value"]) * scale
    zero = Fraction(0)
    p50, p90, p99 = (values.get(f"p{percent}_response_latency", zero) for percent in (50, 90, 99))
    window = _seconds(str(item.get("window") or "30s"))
    return Numbers(
        values.get("success_count", zero), values.get("failure_count", zero), window, p50, p90, p99
    )


def _seconds(window: str) -> Fraction:
    """A Go duration of hours, minutes and seconds (`30s`, `1m0s`)."""
    total, digits = Fraction(0), ""
    for char in window:
        if char.isdigit() or char == ".":
            digits += char
        elif digits:
            total += Fraction(digits) * {"h": 3600, "m": 60, "s": 1}.get(char, 0)
            digits = ""
    return total


def path_of(plural: str, namespace: str) -> str:
    """Path of a list; empty namespace means all."""
    where = f"/namespaces/{namespace}" if namespace and plural not in CLUSTER_WIDE else ""
    return f"{ROOT}{where}/{plural}"


def sheet(
    plural: str, items: Sequence[Mapping[str, Any]], *, everywhere: bool, sort: str
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows."""
    splits = plural == "trafficsplits"
    named = everywhere and plural not in CLUSTER_WIDE
    headings = (
        *(("NAMESPACE",) if named else ()),
        "NAME",
        *(("APEX", "LEAF", "WEIGHT", "SHARE") if splits else ()),
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P90",
        "LATENCY_P99",
    )
    measured = sorted(((numbers(item), item) for item in items), key=_key(sort))
    totals: dict[tuple[str, str], Fraction] = {}
    for found, item in measured:
        totals[_name(item)] = totals.get(_name(item), Fraction(0)) + found.total
    rows = []
    for found, item in measured:
        namespace, name = _name(item)
        row = [namespace] if named else []
        row.append(name)
        if splits:
            backend = item.get("backend") or {}
            whole = totals[_name(item)]
            share = f"{float(100 * found.total / whole):.1f}%" if whole else _NONE
            row += [str(backend.get(key, _NONE)) for key in ("apex", "name", "weight")] + [share]
        rows.append((*row, *cells(found)))
    return headings, rows


def cells(found: Numbers) -> tuple[str, ...]:
    """Success, rate and latencies; dashes where there was nothing."""
    if not found.total:
        return (_NONE,) * 5
    latencies = (duration(value) for value in (found.p50, found.p90, found.p99))
    return (f"{100 * found.share:.2f}%", f"{found.rate:.1f}rps", *latencies)


def duration(seconds: Fraction) -> str:
    """`0.4ms`, `12ms`, `1.25s`."""
    value = float(seconds)
    if value >= 1:
        return f"{value:.2f}s"
    return f"{value * 1000:.1f}ms" if value < 0.01 else f"{value * 1000:.0f}ms"


def aligned(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as kubectl prints one: three spaces between columns."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def _name(item: Mapping[str, Any]) -> tuple[str, str]:
    resource = item.get("resource") or {}
    return str(resource.get("namespace") or ""), str(resource.get("name") or "")


def _key(sort: str) -> Any:
    def by_name(entry: tuple[Numbers, Mapping[str, Any]]) -> tuple[Any, ...]:
        return (*_name(entry[1]), str((entry[1].get("backend") or {}).get("name", "")))

    def key(entry: tuple[Numbers, Mapping[str, Any]]) -> tuple[Any, ...]:
        found = entry[0]
        first = {"rps": -found.rate, "success": found.share, "p99": -found.p99}.get(sort, 0)
        return (first, *by_name(entry))

    return key
