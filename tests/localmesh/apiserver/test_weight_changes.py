"""Weight changes in quick succession, from PUT to watch event over TLS."""

from __future__ import annotations

import asyncio
import json
from typing import Any

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
ROUNDS = 50


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


async def test_every_weight_change_is_seen_once_and_in_order(call: Client) -> None:
    """However fast they are written: none waits for another, none is folded into the next."""
    await call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)
    made = await call("POST", SPLITS, split(0))
    assert made.status == 201, made.text
    revision = made.body["metadata"]["resourceVersion"]
    written: list[tuple[str, int]] = []
    seen: list[tuple[str, int]] = []
    async with call.session.get(f"{call.url}{SPLITS}?watch=1&resourceVersion={revision}") as stream:

        async def follow() -> None:
            while len(seen) < ROUNDS:
                seen.append(what(json.loads(await stream.content.readline())["object"]))

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(follow())
            for number in range(ROUNDS):
                answer = await call("PUT", f"{SPLITS}/api", split(number % 100 + 1, revision))
                assert answer.status == 200, answer.text
                revision = answer.body["metadata"]["resourceVersion"]
                written.append(what(answer.body))
    assert seen == written
    assert len({revision for revision, _ in seen}) == ROUNDS


def what(shown: dict[str, Any]) -> tuple[str, int]:
    return shown["metadata"]["resourceVersion"], shown["spec"]["backends"][1]["weight"]
