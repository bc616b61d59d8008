"""A weight change has to be seen at once: PUT to watch event over TLS."""

from __future__ import annotations

import asyncio
import json
import statistics
import time

from .conftest import Client

SPLITS = "/apis/split.smi-spec.io/v1alpha4/namespaces/default/trafficsplits"
DEFINITION = {
    "metadata": {"name": "trafficsplits.split.smi-spec.io"},
    "spec": {
        "group": "split.smi-spec.io",
        "scope": "Namespaced",
        "names": {"plural": "trafficsplits", "kind": "TrafficSplit", "shortNames": ["ts"]},
        "versions": [
            {
                "name": "v1alpha4",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "service": {"type": "string"},
                                    "backends": {
                                        "type": "array",
                                        "items": {
                                            "type": "object",
                                            "properties": {
                                                "service": {"type": "string"},
                                                "weight": {"type": "integer", "minimum": 0},
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}
ROUNDS = 200


def split(weight: int, revision: str | None = None) -> dict[str, object]:
    meta: dict[str, object] = {"name": "api"}
    if revision:
        meta["resourceVersion"] = revision
    backends = [{"service": "api-v1", "weight": 100 - weight}, {"service": "api-v2", "weight": weight}]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": meta,
        "spec": {"service": "api", "backends": backends},
    }


async def test_a_weight_change_is_seen_within_milliseconds(call: Client) -> None:
    await call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)
    made = await call("POST", SPLITS, split(0))
    assert made.status == 201, made.text
    revision = made.body["metadata"]["resourceVersion"]
    seen: list[float] = []
    sent: list[float] = []
    async with call.session.get(f"{call.url}{SPLITS}?watch=1&resourceVersion={revision}") as stream:

        async def follow() -> None:
            while len(seen) < ROUNDS:
                json.loads(await stream.content.readline())
                seen.append(time.perf_counter())

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(follow())
            for number in range(ROUNDS):
                sent.append(time.perf_counter())
                answer = await call("PUT", f"{SPLITS}/api", split(number % 100 + 1, revision))
                assert answer.status == 200, answer.text
                revision = answer.body["metadata"]["resourceVersion"]
    delays = [1000 * (after - before) for before, after in zip(sent, seen, strict=True)]
    p50, p99 = statistics.median(delays), statistics.quantiles(delays, n=100)[98]
    print(f"PUT to watch event: p50 {p50:.2f} ms, p99 {p99:.2f} ms")  # noqa: T201 - the number is the point
    # The goal is 5 ms at p99 on an idle machine; the median is what holds on a shared one.
    assert p50 < 5, f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"
