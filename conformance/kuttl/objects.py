"""What steps do to a cluster: apply, delete, and look whether objects are as they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.kube import Change, Kube, KubeError
from conformance.kuttl import crd, match
from conformance.kuttl.model import Object, Reference


@dataclass(frozen=True, slots=True)
class Made:
    """An object that did not exist before."""

    path: str
    what: str


class Objects:
    """One cluster, seen from one test's namespace. Methods raise KubeError unless they say otherwise."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    async def apply(self, obj: Object) -> tuple[Change, Made]:
        """Create an object, or merge it into the one that is there."""
        resource = await self.kube.resource(obj["apiVersion"], obj["kind"])
        metadata = obj["metadata"]
        space = metadata.get("namespace") or self.namespace
        if metadata.get("name"):
            change, there = await self.kube.apply(obj, space)
        else:
            there = await self.kube.request("POST", resource.path(space), body=obj)
            change = Change.CREATED
        path = resource.path(space, there["metadata"]["name"])
        return change, Made(path, match.identity({**obj, "metadata": there["metadata"]}))

    async def named(self, reference: Reference) -> list[Made]:
        """The objects a step wants deleted: one by name, or those there are with the labels."""
        resource = await self.kube.resource(reference.apiVersion, reference.kind)
        space = reference.namespace or self.namespace
        if reference.name:
            return [Made(resource.path(space, reference.name), f"{reference.kind} {reference.name}")]
        found = await self._list(reference.apiVersion, reference.kind, space, reference.labels)
        names = [obj["metadata"]["name"] for obj in found]
        return [Made(resource.path(space, name), f"{reference.kind} {name}") for name in names]

    async def delete(self, made: Iterable[Made], seconds: float) -> list[str]:
        """Delete objects and wait until they are gone; those that are not there are fine.

        Returns what happened, one line each. Raises TimeoutError with the name of one that stays.
        """
        listed = list(made)
        told = await asyncio.gather(*(self._delete(one) for one in listed))
        await asyncio.gather(*(self._gone(one, seconds) for one in listed))
        return list(told)

    async def _delete(self, made: Made) -> str:
        try:
            await self.kube.request("DELETE", made.path)
        except KubeError as error:
            if error.status != 404:
                raise
            return f"{made.what} was already gone"
        return f"{made.what} deleted"

    async def _gone(self, made: Made, seconds: float) -> None:
        if await self.kube.find(made.path) is None:
            return
        try:
            await self.kube.wait_gone(made.path, seconds)
        except TimeoutError:
            raise TimeoutError(f"{made.what} is still there {seconds:g} s after it was deleted") from None

    async def missing(self, expected: Object) -> str:
        """Why nothing is as an assertion says, with a difference; empty when something is."""
        try:
            candidates, wanted = await self._candidates(expected)
        except KubeError as error:
            return f"{match.identity(expected)}: {error.message}"
        if not candidates:
            return f"{match.identity(wanted)}: there is none{_chosen(wanted)}"
        reasons = []
        for actual in candidates:
            found = match.mismatch(wanted, actual)
            if found is None:
                return ""
            name = match.identity(actual)
            reasons.append(f"{name}: {found}\n{match.difference(wanted, actual, name)}")
        return "\n".join(reasons)

    async def unwanted(self, expected: Object) -> str:
        """Which object is as an errors file forbids; empty when none is."""
        try:
            candidates, wanted = await self._candidates(expected)
        except KubeError as error:
            return f"{match.identity(expected)}: {error.message}"
        found = match.matching(wanted, candidates)
        if not found:
            return ""
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return f"{match.identity(found[0])}{more} is as the errors file says it must not be"

    async def _candidates(self, expected: Object) -> tuple[list[Object], Object]:
        """The objects an assertion may mean, and the assertion with its namespace filled in."""
        api_version, kind = expected["apiVersion"], expected["kind"]
        metadata: Mapping[str, Any] = expected.get("metadata") or {}
        old = False
        try:
            resource = await self.kube.resource(api_version, kind)
        except KubeError as error:
            if not crd.is_old(expected) or error.status != 404:
                raise
            resource, old = await self.kube.resource(crd.V1, kind), True
        space = (metadata.get("namespace") or self.namespace) if resource.namespaced else None
        wanted = {**expected, "metadata": {**metadata, "namespace": space}} if space else expected
        if metadata.get("name"):
            found = await self.kube.find(resource.path(space, metadata["name"]))
            objects = [] if found is None else [found]
        else:
            objects = await self._list(resource.group_version, kind, space, metadata.get("labels") or {})
        return [crd.old_view(obj) if old else obj for obj in objects], wanted

    async def _list(
        self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
    ) -> list[Object]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = await self.kube.objects(api_version, kind, namespace, selector)
        return [{"apiVersion": api_version, "kind": kind, **obj} for obj in found]

    async def events(self, namespace: str, name: str = "") -> list[str]:
        """The events of a namespace, or about one object, oldest first."""
        found = await self.kube.objects("v1", "Event", namespace)
        found.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return [
            f"{event.get('type', '')} {event.get('reason', '')} "
            f"{about.get('kind', '')}/{about.get('name', '')}: {event.get('message', '')}"
            for event in found
            if (about := event.get("involvedObject") or {}) and name in ("", about.get("name"))
        ]


def _chosen(wanted: Object) -> str:
    """By which labels an assertion without a name chooses."""
    metadata = wanted.get("metadata") or {}
    if metadata.get("name") or not metadata.get("labels"):
        return ""
    return " with " + ", ".join(f"{key}={value}" for key, value in metadata["labels"].items())
