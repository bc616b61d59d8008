"""APIServices: which groups and versions are served elsewhere, and whether that place answers.

Pure but for reading the store. Conditions have upstream's reasons and messages
(kube-aggregator, `remote_available_controller`).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from localmesh.apiserver.endpoints import ready_endpoint
from localmesh.apiserver.errors import Cause, invalid_value, required
from localmesh.apiserver.jsonvalue import JsonObject, child, dumps, lookup
from localmesh.apiserver.store import Key, Store

KEY = "apiservices.apiregistration.k8s.io"
AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
DEFAULT_PORT = 443
MAX_GROUP_PRIORITY, MAX_VERSION_PRIORITY = 20000, 1000


@dataclass(frozen=True, slots=True)
class Remote:
    """One APIService that names a Service."""

    name: str
    group: str
    version: str
    namespace: str
    service: str
    port: int
    bundle: str
    """PEM, "" for the system's roots."""
    verify: bool
    group_priority: int
    version_priority: int

    @property
    def server_name(self) -> str:
        return f"{self.service}.{self.namespace}.svc"

    @property
    def shown(self) -> str:
        return f'service/{self.service} in "{self.namespace}"'


@dataclass(frozen=True, slots=True)
class Verdict:
    """A value of condition Available."""

    available: bool
    reason: str
    message: str


LOCAL = Verdict(True, "Local", "Local APIServices are always available")
NOT_ASKED = Verdict(False, "Unknown", "not asked yet")
PASSED = Verdict(True, "Passed", "all checks passed")


def remote_of(obj: JsonObject) -> Remote | None:
    """None for an APIService that is served by this server itself."""
    spec, service = child(obj, "spec"), child(obj, "spec", "service")
    if not service:
        return None
    try:
        bundle = base64.b64decode(spec.get("caBundle") or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        bundle = "not PEM"  # never trusts anybody; validation keeps it from being written
    return Remote(
        name=obj["metadata"]["name"],
        group=spec.get("group") or "",
        version=spec.get("version") or "",
        namespace=service.get("namespace") or "",
        service=service.get("name") or "",
        port=int(service.get("port") or DEFAULT_PORT),
        bundle=bundle,
        verify=not spec.get("insecureSkipTLSVerify"),
        group_priority=int(spec.get("groupPriorityMinimum") or 0),
        version_priority=int(spec.get("versionPriority") or 0),
    )


def locate(store: Store, remote: Remote) -> tuple[str, int] | Verdict:
    """(address, port) of a ready endpoint of the Service, or why the APIService is not available."""
    item = store.get("services", Key(remote.namespace, remote.service))
    if item is None:
        return Verdict(False, "ServiceNotFound", f"{remote.shown} is not present")
    ports = child(item.value, "spec").get("ports") or []
    row = next((one for one in ports if one.get("port") == remote.port), None)
    if row is None:
        message = f"{remote.shown} is not listening on port {remote.port}"
        return Verdict(False, "ServicePortError", message)
    found = ready_endpoint(store, remote.namespace, remote.service, remote.port)
    if isinstance(found, str):
        name = f' with port name "{row["name"]}"' if row.get("name") else ""
        return Verdict(False, "MissingEndpoints", f"endpoints for {remote.shown} have no addresses{name}")
    return found


def with_condition(obj: JsonObject, verdict: Verdict, now: str) -> JsonObject | None:
    """The new status of the APIService, None if it says so already. Keeps the time of an equal status."""
    conditions = lookup(obj, "status", "conditions") or []
    state = "True" if verdict.available else "False"
    old: JsonObject = next((one for one in conditions if one.get("type") == "Available"), {})
    if (old.get("status"), old.get("reason"), old.get("message")) == (state, verdict.reason, verdict.message):
        return None
    since = old["lastTransitionTime"] if old.get("status") == state else now
    entry = {
        "type": "Available",
        "status": state,
        "lastTransitionTime": since,
        "reason": verdict.reason,
        "message": verdict.message,
    }
    return {"conditions": [*(one for one in conditions if one.get("type") != "Available"), entry]}


def local_service(group: str, version: str, position: int) -> JsonObject:
    """The APIService that says a group and version are served here."""
    spec: JsonObject = {"groupPriorityMinimum": 18000 if not group else 17000, "version": version}
    if group:
        spec["group"] = group
    spec["versionPriority"] = max(1, 15 - position)
    return {
        "metadata": {"name": f"{version}.{group}", "labels": {AUTOMANAGED: "true"}},
        "spec": spec,
    }


def validate(obj: JsonObject, _old: JsonObject | None) -> list[Cause]:
    """What upstream refuses: a name that is not version.group, priorities out of range, odd trust."""
    spec, name = child(obj, "spec"), obj["metadata"].get("name", "")
    causes: list[Cause] = []
    wanted = f"{spec.get('version') or ''}.{spec.get('group') or ''}"
    if name != wanted:
        causes.append(invalid_value("metadata.name", dumps(name).decode(), f'must be `"{wanted}"`'))
    if not spec.get("version"):
        causes.append(required("spec.version"))
    for field, most in (
        ("groupPriorityMinimum", MAX_GROUP_PRIORITY),
        ("versionPriority", MAX_VERSION_PRIORITY),
    ):
        value = spec.get(field) or 0
        if not 0 < value <= most:
            message = f"must be positive and less than {most}"
            causes.append(invalid_value(f"spec.{field}", str(value), message))
    service = spec.get("service")
    insecure, bundle = bool(spec.get("insecureSkipTLSVerify")), spec.get("caBundle")
    if service is None:
        if bundle:
            causes.append(invalid_value("spec.caBundle", "{}", "local APIServices may not have a caBundle"))
        if insecure:
            message = "local APIServices may not have insecureSkipTLSVerify"
            causes.append(invalid_value("spec.insecureSkipTLSVerify", "true", message))
        return causes
    causes += [required(f"spec.service.{field}") for field in ("namespace", "name") if not service.get(field)]
    port = service.get("port", DEFAULT_PORT)
    if not 1 <= port <= 65535:
        causes.append(invalid_value("spec.service.port", str(port), "must be between 1 and 65535, inclusive"))
    if insecure and bundle:
        message = "may not be true if caBundle is present"
        causes.append(invalid_value("spec.insecureSkipTLSVerify", "true", message))
    return causes


def fill(obj: JsonObject) -> None:
    """The default port of a Service reference, in place."""
    service = child(obj, "spec", "service")
    if service:
        service.setdefault("port", DEFAULT_PORT)
