"""What `local status` shows: rows made from API objects and from the controller's list of proxies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp

from cli.kube import Kube, Object, condition
from cli.output import Sheet
from smi.names import CONTROLLER_ADMIN_PORT, CONTROLLER_NAME, SYSTEM_NAMESPACE

ASK_SECONDS: Final = 3.0


def nodes_sheet(nodes: Sequence[Object]) -> Sheet:
    """One row per node."""
    rows = [
        (
            node["metadata"]["name"],
            _readiness(node),
            (node.get("status") or {}).get("nodeInfo", {}).get("kubeletVersion"),
        )
        for node in nodes
    ]
    return Sheet("Nodes", ("Node", "Status", "Version"), rows)


def pods_sheet(pods: Sequence[Object]) -> Sheet:
    """One row per pod, by namespace and name."""
    rows = [
        (
            pod["metadata"]["namespace"],
            pod["metadata"]["name"],
            _containers_ready(pod),
            pod_phase(pod),
            (pod.get("status") or {}).get("podIP"),
        )
        for pod in sorted(pods, key=lambda pod: (pod["metadata"]["namespace"], pod["metadata"]["name"]))
    ]
    return Sheet("Pods", ("Namespace", "Pod", "Ready", "Status", "IP"), rows)


def proxies_sheet(answer: Mapping[str, Any]) -> Sheet:
    """One row per connected proxy, with the config revision it runs beside the newest one."""
    revision = answer.get("revision")
    rows = [
        (
            proxy["pod"],
            proxy["revision"],
            _currency(proxy, revision),
            len(proxy.get("subscriptions") or []),
            f"{float(proxy.get('connected_seconds') or 0):.0f} s",
            proxy["identity"].rpartition("/sa/")[2],
        )
        for proxy in sorted(answer.get("proxies", []), key=lambda proxy: str(proxy["pod"]))
    ]
    title = (
        f"Proxies (config revision {revision})" if revision is not None else f"Proxies: {answer.get('error')}"
    )
    return Sheet(title, ("Pod", "Revision", "Config", "Uses", "Connected", "Account"), rows)


def _currency(proxy: Mapping[str, Any], revision: object) -> str:
    if proxy.get("nack"):
        return f"refused: {proxy['nack']}"
    return "current" if proxy["revision"] == revision else "behind"


def pod_phase(pod: Object) -> str:
    """The word kubectl shows under STATUS: what a container waits for, if one waits, or the phase."""
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = pod.get("status") or {}
    for entry in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        reason = ((entry.get("state") or {}).get("waiting") or {}).get("reason")
        if reason:
            return str(reason)
    return str(status.get("phase", "Unknown"))


def _containers_ready(pod: Object) -> str:
    """Ready containers of all that stay running, native sidecars included."""
    status = pod.get("status") or {}
    sidecars = {
        entry["name"]
        for entry in pod["spec"].get("initContainers", [])
        if entry.get("restartPolicy") == "Always"
    }
    states = [
        *status.get("containerStatuses", []),
        *(entry for entry in status.get("initContainerStatuses", []) if entry["name"] in sidecars),
    ]
    wanted = len(pod["spec"]["containers"]) + len(sidecars)
    return f"{sum(bool(entry.get('ready')) for entry in states)}/{wanted}"


def _readiness(node: Object) -> str:
    return "Ready" if (condition(node, "Ready") or {}).get("status") == "True" else "NotReady"


async def read_proxies(kube: Kube) -> Mapping[str, Any]:
    """The controller's answer to /debug/proxies; `{"error": …}` when there is no controller to ask."""
    try:
        pods = await kube.objects("v1", "Pod", SYSTEM_NAMESPACE)
    except KeyError:
        pods = []
    addresses = [
        pod["status"]["podIP"]
        for pod in pods
        if pod["metadata"]["name"].startswith(CONTROLLER_NAME) and (pod.get("status") or {}).get("podIP")
    ]
    if not addresses:
        return {"error": "the mesh is not installed", "proxies": []}
    url = f"http://{addresses[-1]}:{CONTROLLER_ADMIN_PORT}/debug/proxies"
    timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            answer: Mapping[str, Any] = await response.json()
            return answer
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return {"error": f"the controller does not answer: {error!r}", "proxies": []}
