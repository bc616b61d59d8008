"""How long a big world takes: `python -m tests.controller.compile.measure`.

1 000 services, 10 000 endpoints, 200 SMI objects. Prints milliseconds, the median of a few runs.
"""

# ruff: noqa: T201 - a command prints
from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from controller.compile.compiler import compile  # noqa: A004 - the architecture's own verb
from controller.compile.endpoints import compile_endpoints
from controller.compile.policy import compile_policy
from controller.compile.read import from_kubernetes
from controller.compile.slicing import diff, slice_for
from controller.compile.world import Reading, World
from tests.controller.compile import build

SERVICES, PODS_EACH, GROUPS = 1000, 10, 67


def objects() -> Iterator[build.Obj]:
    for index in range(SERVICES):
        ns, name = f"team-{index % 20}", f"app-{index}"
        ips = [f"10.{index // 250}.{index % 250}.{pod + 1}" for pod in range(PODS_EACH)]
        yield build.service(name, ns=ns, ip=f"10.96.{index // 250}.{index % 250 + 1}")
        for pod, ip in enumerate(ips):
            container = {
                "ports": [{"containerPort": 8080, "name": "http"}],
                "readinessProbe": {"httpGet": {"port": "http", "path": "/ready"}},
            }
            labels = {"app": name, "pod-template-hash": "5d4f8c7b9"}
            yield build.pod(f"{name}-{pod}", ip, ns=ns, sa=name, labels=labels, containers=[container])
        yield build.endpoint_slice(
            name, [build.endpoint(f"{name}-{pod}", ip, ns=ns) for pod, ip in enumerate(ips)], ns=ns
        )
    for index in range(GROUPS):
        ns, peers = f"team-{index % 20}", [f"app-{index + 20 * step}" for step in range(4)]
        match = {"name": "read", "pathRegex": "/items/.*", "methods": ["GET"]}
        yield build.route_group(f"routes-{index}", match, ns=ns)
        yield build.target(f"allow-{index}", peers[0], peers[1:], [build.http_rule(f"routes-{index}")], ns=ns)
        yield build.split(f"split-{index}", peers[0], {peers[1]: 90, peers[2]: 10}, ns=ns)


def milliseconds(work: Callable[[], Any], runs: int = 5) -> float:
    took = []
    for _ in range(runs):
        gc.collect()
        start = time.perf_counter()
        work()
        took.append((time.perf_counter() - start) * 1000)
    return median(took)


def report(what: str, took: float, note: str = "") -> None:
    print(f"{what:28}{took:8.2f} ms {note}".rstrip())


def main() -> None:
    raw = list(objects())
    report("read every object", milliseconds(lambda: [from_kubernetes(obj["kind"], obj) for obj in raw], 1))
    readings: list[Reading] = [from_kubernetes(obj["kind"], obj) for obj in raw]
    world = World.of(readings)
    counts = f"{len(world.services)} services, {len(world.pods)} pods, {len(world.smi_objects)} SMI objects"
    report("World.of", milliseconds(lambda: World.of(readings)), counts)
    snapshot = compile(world)
    report("compile, from nothing", milliseconds(lambda: compile(world)))
    report("  policy lane", milliseconds(lambda: compile_policy(world)))
    report("  endpoint lane", milliseconds(lambda: compile_endpoints(world)))
    new = World.of(with_a_pod_leaving(raw, readings))
    report("compile, one pod changed", milliseconds(lambda: compile(new, snapshot)))
    keys = [f"10.96.0.{index + 1}:80" for index in range(20)]
    pod = "team-0/app-0-0"
    old, after = slice_for(snapshot, pod, keys), slice_for(compile(new, snapshot), pod, keys)
    report("slice, 20 subscriptions", milliseconds(lambda: slice_for(snapshot, pod, keys)))
    changed, _ = diff(old, after)
    report("diff of two slices", milliseconds(lambda: diff(old, after)), f"changed: {', '.join(changed)}")


def with_a_pod_leaving(raw: list[build.Obj], readings: list[Reading]) -> list[Reading]:
    index = next(index for index, reading in enumerate(readings) if reading.ref.kind == "Pod")
    pod = {**raw[index], "metadata": {**raw[index]["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    return [*readings[:index], from_kubernetes("Pod", pod), *readings[index + 1 :]]


if __name__ == "__main__":
    main()
