"""Installs the mesh in a cluster through its API: CRDs, control plane, and a wait until it is ready.

The manifests are the controller's own (`controller.manifests`); nothing is known here of what is
inside them but where webhooks keep their certificate authority.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from cli.errors import Failed
from cli.kube import Kube, Object, condition
from controller.manifests import InstallSettings, render
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE

READY_SECONDS: Final = 45.0
DEFINITION: Final = "CustomResourceDefinition"

Say = Callable[[str], None]
"""Takes one line of progress."""


async def install(kube: Kube, settings: InstallSettings, say: Say, *, by_address: bool) -> None:
    """Apply everything and wait until the controller is ready; raises Failed or KubeError.

    `by_address`: sidecars are told the controller's ClusterIP, for a cluster without DNS.
    """
    objects = render(settings)
    definitions = [obj for obj in objects if obj["kind"] == DEFINITION]
    say(f"installing {len(definitions)} SMI resource definitions")
    for obj in objects:
        if obj["kind"] in ("Namespace", DEFINITION):
            await _apply(kube, obj)
    for definition in definitions:
        await _wait(kube, definition, _established)
    say("installing the control plane")
    for obj in objects:
        if obj["kind"] not in ("Namespace", DEFINITION, "Deployment"):
            await _apply(kube, obj)
    if by_address:
        objects = render(replace(settings, controller_address=await _controller_address(kube)))
    for obj in objects:
        if obj["kind"] == "Deployment":
            await _apply(kube, obj)
    say("waiting for the controller")
    for obj in objects:
        ready = _READINESS.get(obj["kind"])
        if ready is not None:
            await _wait(kube, obj, ready)


async def _controller_address(kube: Kube) -> str:
    service = await kube.request("GET", f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/services/{CONTROLLER_NAME}")
    return str(service["spec"]["clusterIP"])


async def _apply(kube: Kube, obj: Object) -> None:
    resource = await kube.resource(obj["apiVersion"], obj["kind"])
    path = resource.path(obj["metadata"].get("namespace"), obj["metadata"]["name"])
    existing = await kube.find(path)
    await kube.apply(keep_ca_bundles(obj, existing) if existing else obj)


def keep_ca_bundles(wanted: Object, existing: Mapping[str, Any]) -> Object:
    """`wanted` with the caBundles that a running controller has put into `existing`.

    Applying replaces lists whole; without this, installing again would cut the webhooks off until
    the controller notices.
    """
    kept = copy.deepcopy(wanted)
    bundles = {hook["name"]: _client_config(hook).get("caBundle") for hook in existing.get("webhooks", [])}
    for hook in kept.get("webhooks", []):
        bundle = bundles.get(hook["name"])
        if bundle:
            hook.setdefault("clientConfig", {}).setdefault("caBundle", bundle)
    return kept


def _client_config(hook: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = hook.get("clientConfig") or {}
    return found


async def _wait(kube: Kube, obj: Object, ready: Callable[[Object], bool]) -> None:
    resource = await kube.resource(obj["apiVersion"], obj["kind"])
    name = obj["metadata"]["name"]
    path = resource.path(obj["metadata"].get("namespace"), name)
    try:
        await kube.wait(path, ready, READY_SECONDS, f"{obj['kind']} {name}")
    except TimeoutError as error:
        raise Failed(f"the mesh is not ready: {error}\n{await _reasons(kube)}".rstrip()) from None


async def _reasons(kube: Kube) -> str:
    """Warnings about the control plane's objects, the likeliest reasons why it does not come up."""
    events = await kube.objects("v1", "Event", SYSTEM_NAMESPACE)
    return "\n".join(
        f"  {event['involvedObject'].get('name')}: {event.get('reason')}: {event.get('message')}"
        for event in events[-5:]
        if event.get("type") == "Warning"
    )


def _established(obj: Object) -> bool:
    return (condition(obj, "Established") or {}).get("status") == "True"


def _available(obj: Object) -> bool:
    current = (obj.get("status") or {}).get("observedGeneration") == obj["metadata"]["generation"]
    return current and (condition(obj, "Available") or {}).get("status") == "True"


def _trusted(obj: Object) -> bool:
    """Every webhook knows the certificate authority it is called with."""
    return all(_client_config(hook).get("caBundle") for hook in _webhooks(obj))


def _webhooks(obj: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    found: Iterable[Mapping[str, Any]] = obj.get("webhooks", [])
    return found


def _aggregated(obj: Object) -> bool:
    """The API server has reached what it aggregates."""
    return (condition(obj, "Available") or {}).get("status") == "True"


def _convertible(obj: Object) -> bool:
    conversion = obj["spec"].get("conversion") or {}
    if conversion.get("strategy") != "Webhook":
        return True
    return bool((conversion.get("webhook") or {}).get("clientConfig", {}).get("caBundle"))


_READINESS: Final[Mapping[str, Callable[[Object], bool]]] = {
    "Deployment": _available,
    "MutatingWebhookConfiguration": _trusted,
    "ValidatingWebhookConfiguration": _trusted,
    DEFINITION: _convertible,
    "APIService": _aggregated,
}
"""When an object of the installation is ready, by kind."""
