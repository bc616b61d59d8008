"""An API for tests that need only a few answers: objects in a dict, and a record of what was written.

Stands in for the API server where a whole one would only get in the way (CA, signing, status); the
watches are tested against the real localmesh API server instead.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping

from controller.kube import KubeError, Object


def merge_patch(target: object, patch: object) -> object:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


class StoredObjects:
    """`controller.kube.Api` over a dict of path → object."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.writes: list[tuple[str, str, Object]] = []
        """(verb, path, body) of every write, in order."""
        self.fails_with: KubeError | None = None
        self.failed = asyncio.Event()
        """Set once a call has failed with `fails_with`."""
        self._version = 0

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Object:
        self._fail()
        if path not in self.objects:
            raise KubeError(404, "NotFound", path)
        return copy.deepcopy(self.objects[path])

    async def create(self, path: str, obj: Object) -> Object:
        self._fail()
        self.writes.append(("create", path, obj))
        where = f"{path}/{obj['metadata']['name']}"
        if where in self.objects:
            raise KubeError(409, "AlreadyExists", where)
        return self.put(where, obj)

    async def replace(self, path: str, obj: Object) -> Object:
        self._fail()
        self.writes.append(("replace", path, obj))
        before = await self.get(path)
        if obj["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
            raise KubeError(409, "Conflict", path)
        return self.put(path, obj)

    async def merge(self, path: str, patch: Object) -> Object:
        self._fail()
        self.writes.append(("merge", path, patch))
        owner = path.removesuffix("/status")
        before = await self.get(owner)
        merged = merge_patch(before, patch)
        assert isinstance(merged, dict)
        return self.put(owner, merged)

    def _fail(self) -> None:
        if self.fails_with is not None:
            self.failed.set()
            raise self.fails_with

    def put(self, path: str, obj: Object) -> Object:
        """Store an object as it is; returns it with its new resourceVersion."""
        self._version += 1
        stored = copy.deepcopy(obj)
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.objects[path] = stored
        return copy.deepcopy(stored)
