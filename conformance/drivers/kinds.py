"""Kinds by name, and the version of each that a cluster serves."""

from __future__ import annotations

import re
from typing import Final

from conformance.driver import DriverError, Object
from conformance.expect import ExpectationError
from conformance.kube import Kube, KubeError, Resource

_GROUPS: Final = {
    "TrafficSplit": "split.smi-spec.io",
    "TrafficTarget": "access.smi-spec.io",
    "IdentityBinding": "access.smi-spec.io",
    "HTTPRouteGroup": "specs.smi-spec.io",
    "TCPRoute": "specs.smi-spec.io",
    "UDPRoute": "specs.smi-spec.io",
    "Deployment": "apps",
}
_VERSION: Final = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")


def is_smi(api_version: str) -> bool:
    return api_version.partition("/")[0].endswith(".smi-spec.io")


def age(version: str) -> tuple[int, int, int]:
    """Sorts Kubernetes versions from old to new: v1alpha1 < v1alpha4 < v1beta1 < v1."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return (0, 0, 0)
    stage = {"alpha": 0, "beta": 1, None: 2}[found[2]]
    return (stage, int(found[1]), int(found[3] or 0))


class Kinds:
    """Finds the path of an object by its kind."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._versions: dict[str, tuple[str, ...]] = {}

    async def path(self, kind: str, name: str | None, namespace: str, version: str | None = None) -> str:
        """The URL path of an object, or of the collection; ExpectationError if the version is not served."""
        try:
            if version is not None:
                group = _GROUPS.get(kind)
                api_version = version if "/" in version or group is None else f"{group}/{version}"
                resource = await self._kube.resource(api_version, kind)
            else:
                resource = await self._newest(kind)
        except KubeError as error:
            if error.status == 404:
                raise ExpectationError(error.message) from None
            raise DriverError(error.message) from None
        return resource.path(namespace, name)

    async def _newest(self, kind: str) -> Resource:
        group = _GROUPS.get(kind)
        if group is None:
            return await self._kube.resource("v1", kind)
        if group not in self._versions:
            listing = await self._kube.request("GET", f"/apis/{group}")
            names = sorted((entry["version"] for entry in listing["versions"]), key=age, reverse=True)
            self._versions[group] = tuple(names)
        for version in self._versions[group]:
            try:
                return await self._kube.resource(f"{group}/{version}", kind)
            except KubeError as error:
                if error.status != 404:
                    raise
        raise KubeError(404, "NotFound", f"the cluster serves no version of {kind}")

    async def of(self, obj: Object, namespace: str) -> tuple[str, str]:
        """(collection path, object path) for an object as it is written."""
        resource = await self._kube.resource(obj["apiVersion"], obj["kind"])
        return resource.path(namespace), resource.path(namespace, obj["metadata"]["name"])
