"""Namespaces: their first inhabitants (ServiceAccount, root certificate) and their end."""

from __future__ import annotations

from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import current, delete_quietly

ROOT_CA: Final = "kube-root-ca.crt"
LOOK_AGAIN_S: Final = 0.1
NEVER_LISTED: Final = frozenset({"bindings", "localsubjectaccessreviews.authorization.k8s.io"})


class InhabitantsController:
    """Creates what every namespace has, and again when somebody deletes it."""

    def __init__(self, api: Api, ca_bundle: str) -> None:
        self._api = api
        self._ca_bundle = ca_bundle
        self.loop = ControlLoop("namespace-inhabitants", self.reconcile)

    def start(self) -> None:
        def owner_of(_kind: str, obj: dict[str, Any]) -> None:
            if obj["metadata"]["name"] in ("default", ROOT_CA):
                self.loop.add(("", obj["metadata"]["namespace"]))

        watch = self._api.watch
        self.loop.start(
            ("namespaces", lambda: feed(watch("namespaces"), lambda _kind, ns: self.loop.add(key_of(ns)))),
            ("serviceaccounts", lambda: feed(watch("serviceaccounts"), owner_of)),
            ("configmaps", lambda: feed(watch("configmaps"), owner_of)),
        )

    async def reconcile(self, key: Key) -> float | None:
        namespace = await current(self._api, "namespaces", "", key[1])
        if namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return None
        name = key[1]
        if self._api.peek("serviceaccounts", name, "default") is None:
            await self._create("serviceaccounts", name, {"metadata": {"name": "default"}})
        bundle = self._api.peek("configmaps", name, ROOT_CA)
        data = {"ca.crt": self._ca_bundle}
        if bundle is None:
            await self._create("configmaps", name, {"metadata": {"name": ROOT_CA}, "data": data})
        elif bundle.get("data") != data:
            await self._api.patch("configmaps", name, ROOT_CA, {"data": data})
        return None

    async def _create(self, resource: str, namespace: str, obj: dict[str, Any]) -> None:
        try:
            await self._api.create(resource, namespace, obj)
        except ApiError as error:
            if error.code not in (403, 404, 409):  # it is there already, or the namespace is on its way out
                raise


class NamespaceController:
    """Empties a namespace that is being deleted, then lets it go."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.loop = ControlLoop("namespace", self.reconcile)

    def start(self) -> None:
        def on_namespace(_kind: str, namespace: dict[str, Any]) -> None:
            if "deletionTimestamp" in namespace["metadata"]:
                self.loop.add(key_of(namespace))

        self.loop.start(("namespaces", lambda: feed(self._api.watch("namespaces"), on_namespace)))

    async def reconcile(self, key: Key) -> float | None:
        name = key[1]
        namespace = await current(self._api, "namespaces", "", name)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return None
        if await self._empty(name):
            return LOOK_AGAIN_S
        namespace.setdefault("spec", {})["finalizers"] = []
        try:
            await self._api.update("namespaces", None, name, namespace, subresource="finalize")
        except ApiError as error:
            if error.code != 404:
                raise
        return None

    async def _empty(self, namespace: str) -> int:
        """Delete everything inside; returns how many objects are still there."""
        left = 0
        for resource in self._api.resources():
            if not resource.namespaced or resource.key in NEVER_LISTED or "list" not in resource.verbs:
                continue
            for obj in await self._api.list(resource.key, namespace):
                left += 1
                if "deletionTimestamp" not in obj["metadata"]:
                    name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
                    await delete_quietly(self._api, resource.key, namespace, name, uid, "Background")
        if left:  # most kinds vanish at once; what is left now waits for a finalizer or a grace period
            left = await self._count(namespace)
        return left

    async def _count(self, namespace: str) -> int:
        found = 0
        for resource in self._api.resources():
            if resource.namespaced and resource.key not in NEVER_LISTED and "list" in resource.verbs:
                found += len(await self._api.list(resource.key, namespace))
        return found
