"""The rows of `local status`, made from recorded API objects."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from cli.inventory import nodes_sheet, pod_phase, pods_sheet, proxies_sheet

POD: dict[str, Any] = {
    "metadata": {"namespace": "shop", "name": "web-1"},
    "spec": {
        "initContainers": [{"name": "smi-mesh-init"}, {"name": "smi-mesh-proxy", "restartPolicy": "Always"}],
        "containers": [{"name": "web"}],
    },
    "status": {
        "phase": "Running",
        "podIP": "10.10.0.5",
        "initContainerStatuses": [
            {"name": "smi-mesh-init", "ready": True, "state": {"terminated": {"reason": "Completed"}}},
            {"name": "smi-mesh-proxy", "ready": True, "state": {"running": {}}},
        ],
        "containerStatuses": [{"name": "web", "ready": False, "state": {"running": {}}}],
    },
}


def test_a_native_sidecar_counts_as_a_container() -> None:
    assert pods_sheet([POD]).rows == [("shop", "web-1", "1/2", "Running", "10.10.0.5")]


def test_the_phase_is_what_kubectl_shows() -> None:
    assert pod_phase(POD) == "Running"
    waiting = {"name": "web", "state": {"waiting": {"reason": "ErrImagePull"}}}
    assert pod_phase({**POD, "status": {"containerStatuses": [waiting]}}) == "ErrImagePull"
    assert pod_phase({"metadata": {"deletionTimestamp": "now"}}) == "Terminating"
    assert pod_phase({"metadata": {}, "spec": {}}) == "Unknown"


def test_nodes() -> None:
    node = {
        "metadata": {"name": "localmesh"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.32.0"},
        },
    }
    assert nodes_sheet([node, {"metadata": {"name": "new"}}]).rows == [
        ("localmesh", "Ready", "v1.32.0"),
        ("new", "NotReady", None),
    ]


def proxy(pod: str, revision: int, **more: object) -> dict[str, object]:
    common = {
        "identity": "spiffe://cluster.local/ns/shop/sa/web",
        "connected_seconds": 3.2,
        "version": "0.1.0",
    }
    return {"pod": pod, "revision": revision, "subscriptions": ["api:8080"], "nack": None, **common, **more}


def test_proxies_show_who_is_behind() -> None:
    answer = {
        "revision": 7,
        "proxies": [proxy("shop/web-1", 7), proxy("shop/api-1", 6), proxy("shop/db-1", 6, nack="too big")],
    }
    sheet = proxies_sheet(answer)
    assert "revision 7" in sheet.title
    assert [row[2] for row in sheet.rows] == ["behind", "refused: too big", "current"]
    assert sheet.rows[2][3:6] == (1, "3 s", "web")


def test_no_controller_is_said() -> None:
    assert proxies_sheet({"error": "the mesh is not installed", "proxies": []}).title.endswith(
        "not installed"
    )


def test_sheets_can_be_drawn() -> None:
    file = io.StringIO()
    console = Console(file=file, width=120)
    console.print(pods_sheet([POD]).table())
    assert "web-1" in file.getvalue()
