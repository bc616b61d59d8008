"""Creating and deleting the pods of an owner: owner reference, events, and a slow start against refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers.loop import ControlLoop, key_of
from localmesh.controllers.owners import controller_of, delete_quietly, owner_reference, selects
from localmesh.events import EventRecorder

BURST: Final = 500
"""Most pods created or deleted in one go (upstream's burst)."""


class PodControl:
    """The pods of owners of one kind."""

    def __init__(self, api: Api, events: EventRecorder, api_version: str, kind: str) -> None:
        self._api = api
        self._events = events
        self._type = api_version, kind

    async def create(self, owner: Mapping[str, Any], pod: Mapping[str, Any]) -> ApiError | None:
        """Create one pod of `owner`; what refused it, if anything did, is told in an event too."""
        meta = {**pod["metadata"], "ownerReferences": [owner_reference(owner, *self._type)]}
        try:
            created = await self._api.create(
                "pods", owner["metadata"]["namespace"], {**pod, "metadata": meta}
            )
        except ApiError as error:
            self._events.warning(owner, "FailedCreate", f"Error creating: {error}")
            return error
        self._events.normal(owner, "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
        return None

    async def create_all(
        self, owner: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]
    ) -> ApiError | None:
        """Create them, one first, then twice as many each time: one refusal must not become five hundred."""
        batch, position, most = 1, 0, min(len(pods), BURST)
        while position < most:
            part = pods[position : min(position + batch, most)]
            results = await asyncio.gather(*(self.create(owner, pod) for pod in part))
            failure = next((result for result in results if result is not None), None)
            if failure is not None:
                return failure
            position += len(part)
            batch *= 2
        return None

    async def delete(self, owner: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> None:
        await asyncio.gather(*(self._delete(owner, pod) for pod in pods[:BURST]))

    async def _delete(self, owner: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
        meta = pod["metadata"]
        await delete_quietly(self._api, "pods", meta["namespace"], meta["name"], meta["uid"])
        self._events.normal(owner, "SuccessfulDelete", f"Deleted pod: {meta['name']}")


async def follow_pods(api: Api, loop: ControlLoop, resource: str, kind: str) -> None:
    """Have `loop` look at the owner of every pod that changes; at all that may adopt it, when it has none."""
    async for event, pod in api.watch("pods"):
        namespace = pod["metadata"].get("namespace") or ""
        owner = controller_of(pod) if "ownerReferences" in pod["metadata"] else None
        if owner is not None and owner.get("kind") == kind:
            loop.add((namespace, owner["name"]))
        elif owner is None and event != "DELETED":
            for candidate in await api.list(resource, namespace):
                if selects(candidate["spec"].get("selector"), pod["metadata"].get("labels")):
                    loop.add(key_of(candidate))
