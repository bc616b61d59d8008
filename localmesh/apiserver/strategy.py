"""What is particular to a kind, gathered behind the one interface `rest` knows."""

from __future__ import annotations

from collections.abc import Sequence

from localmesh.apiserver import conversion
from localmesh.apiserver.call import Call, Target
from localmesh.apiserver.errors import Cause
from localmesh.apiserver.jsonvalue import JsonObject, clone_object
from localmesh.apiserver.registry import Resource


class KindStrategy:
    """Dispatches to the built-in tables, or to the schema of a custom resource."""

    def decode(self, target: Target, obj: JsonObject, call: Call) -> JsonObject:
        return clone_object(obj)

    def prepare(self, target: Target, obj: JsonObject, old: JsonObject | None) -> None:
        if target.resource.key == "namespaces" and old is None:
            obj.setdefault("spec", {})["finalizers"] = ["kubernetes"]
            obj["status"] = {"phase": "Active"}

    def validate(self, target: Target, obj: JsonObject, old: JsonObject | None) -> list[Cause]:
        return []

    async def convert(
        self, resource: Resource, objects: Sequence[JsonObject], version: str
    ) -> list[JsonObject]:
        return [conversion.serve(resource, obj, version) for obj in objects]

    async def to_storage(self, resource: Resource, obj: JsonObject) -> JsonObject:
        return conversion.store(resource, obj)

    def begin_deletion(self, target: Target, obj: JsonObject) -> None:
        if target.resource.key == "namespaces":
            obj.setdefault("status", {})["phase"] = "Terminating"
