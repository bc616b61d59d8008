"""What Flagger's and Argo Rollouts' stand-ins share: objects over HTTPS, and what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.localmesh.kube_kit import Kube

MERGE: Final = "application/merge-patch+json"


class RefusedError(AssertionError):
    """The API server did not do what Flagger asked; the text holds the request and the Status."""


@dataclass
class Api:
    """One namespace's objects by path; remembers every write."""

    kube: Kube
    namespace: str
    writes: list[str] = field(default_factory=list)
    """`verb plural/name`, in order; what only tells people (events, the Canary's status) is left out."""

    def path(self, group_version: str, plural: str, name: str = "") -> str:
        root = "/api/v1" if group_version == "v1" else f"/apis/{group_version}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def send(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """The answered object; None for 404 to a GET or PUT. Raises RefusedError for any other refusal."""
        code, answer = self.kube.call(method, path, body, kind)
        if code == 404 and method in ("GET", "PUT"):
            return None
        if code >= 300:
            raise RefusedError(f"{method} {path}: {code} {answer.decode(errors='replace')}")
        if method != "GET" and not path.endswith(("/status", "/events")):
            where = f"{path}/{body['metadata']['name']}" if method == "POST" else path
            self.writes.append(f"{method} {'/'.join(where.split('/')[-2:])}")
        return json.loads(answer)

    def required(self, path: str) -> Any:
        found = self.send("GET", path)
        if found is None:
            raise RefusedError(f"GET {path}: 404, Flagger gives up here")
        return found


def controller_reference(owner: Mapping[str, Any]) -> dict[str, Any]:
    """As metav1.NewControllerRef writes it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
