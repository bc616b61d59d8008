"""Worlds and samples in few words."""

from __future__ import annotations

from typing import Any

from controller.compile.world import EndpointSlice, Pod, SliceEndpoint, World
from controller.metricsapi.samples import Samples, parse_samples
from smi.api.hub import TrafficSplit, WeightedService
from smi.names import NamespacedName, Workload

BOUNDS = [1.0, 2.0, 5.0, 10.0, 100.0]


def name(text: str) -> NamespacedName:
    return NamespacedName.parse(text)


def pod(
    text: str,
    workload: str = "",
    owner: tuple[str, str] = ("", ""),
    *,
    ip: str = "127.0.0.1",
    node: str = "",
    ready: bool = True,
    meshed: bool = True,
) -> Pod:
    return Pod(
        name=name(text),
        ips=(ip,) if ip else (),
        host_network=False,
        service_account="default",
        labels=(),
        ready=ready,
        terminating=False,
        meshed=meshed,
        ports=(),
        named_ports=(),
        probes=(),
        exclude_inbound=frozenset(),
        workload=Workload.parse(workload),
        owner=owner,
        node=node,
    )


def deployed(text: str, deployment: str, **rest: Any) -> Pod:
    """A pod of a Deployment by way of a ReplicaSet."""
    return pod(text, f"Deployment/{deployment}", ("ReplicaSet", f"{deployment}-1"), **rest)


def slice_of(service: str, *pods: str) -> EndpointSlice:
    endpoints = tuple(SliceEndpoint("10.0.0.1", True, True, name(one), "") for one in pods)
    return EndpointSlice(name(f"{service}-x"), name(service), (), endpoints)


def split(text: str, service: str, **weights: int) -> TrafficSplit:
    found = name(text)
    backends = tuple(
        WeightedService(service=backend.replace("_", "-"), weight=weight)
        for backend, weight in weights.items()
    )
    return TrafficSplit(namespace=found.namespace, name=found.name, service=service, backends=backends)


def world(*things: Pod | EndpointSlice | TrafficSplit) -> World:
    return World(
        pods={one.name: one for one in things if isinstance(one, Pod)},
        slices={one.name: one for one in things if isinstance(one, EndpointSlice)},
        splits={
            NamespacedName(one.namespace, one.name): one for one in things if isinstance(one, TrafficSplit)
        },
    )


def row(
    direction: str,
    peer: str = "",
    success: int = 0,
    failure: int = 0,
    *,
    buckets: list[int] | None = None,
    service: str = "",
    backend: str = "",
    split: str = "",
    workload: str = "",
) -> dict[str, Any]:
    """A row as a proxy writes it; without buckets everything took up to 1 ms."""
    kind, _, workload_name = workload.partition("/")
    return {
        "direction": direction,
        "service": service,
        "backend": backend,
        "split": split,
        "peer": {
            "pod": peer,
            "namespace": peer.partition("/")[0],
            "workload": {"kind": kind, "name": workload_name, "app": "", "version": ""},
            "identity": "",
        },
        "success": success,
        "failure": failure,
        "sum_ms": 1.0,
        "buckets": buckets or [success + failure, 0, 0, 0, 0, 0],
    }


def document(text: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": 1,
        "pod": text,
        "workload": {},
        "identity": "",
        "started": 1.0,
        "now": 2.0,
        "window_seconds": 30.0,
        "bounds_ms": BOUNDS,
        "http": list(rows),
        "tcp": [],
        "folded": 0,
    }


def samples(text: str, *rows: dict[str, Any]) -> Samples:
    return parse_samples(document(text, *rows), name(text))
