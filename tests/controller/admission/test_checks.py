"""Which probes and hooks go through the sidecar, and the wait before an app is ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.admission.inject import Refused, inject
from dataplane.settings import Check, app_checks
from tests.controller.admission.pods import apply, minimal
from tests.controller.admission.test_inject import EXPLICIT, SIDECAR

SECRET = "s3cret"
HOST_A = {"name": "Host", "value": "a"}


def pod_with(annotations: dict[str, str] | None = None, **container: Any) -> dict[str, Any]:
    pod = minimal()
    pod["metadata"]["annotations"] = annotations or {}
    ports = [{"name": "db", "containerPort": 5432}, {"containerPort": 8080}]
    pod["spec"]["containers"][0] |= {"ports": ports, **container}
    return pod


def patched(pod: dict[str, Any], sidecar: Any = SIDECAR) -> tuple[dict[str, Any], dict[str, Check]]:
    """(the app's container, the checks its sidecar is given)."""
    patch = inject(pod, "shop", sidecar, SECRET)
    assert isinstance(patch, list)
    spec = apply(pod, patch)["spec"]
    proxy = next(one for one in spec["initContainers"] if one["name"] == "smi-mesh-proxy")
    env = {one["name"]: one.get("value", "") for one in proxy["env"]}
    return spec["containers"][0], dict(app_checks(env.get("SMI_MESH_APP_CHECKS", "")))


def asks(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": f"/app-health/{path}", "port": 15020, "scheme": "HTTP"}}


@pytest.mark.parametrize(
    ("handler", "check"),
    [
        ({"tcpSocket": {"port": 5432}}, Check("tcp", 5432, 3.0)),
        ({"tcpSocket": {"port": "db"}}, Check("tcp", 5432, 3.0)),
        ({"tcpSocket": {"port": "5432"}}, Check("tcp", 5432, 3.0)),
        ({"grpc": {"port": 8080}}, Check("grpc", 8080, 3.0)),
        ({"grpc": {"port": 8080, "service": "shop"}}, Check("grpc", 8080, 3.0, service="shop")),
        (
            {"httpGet": {"port": 8443, "scheme": "HTTPS", "path": "/up?x=1", "httpHeaders": [HOST_A]}},
            Check("https", 8443, 3.0, "/up?x=1", (("Host", "a"),)),
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["startup", "readiness", "liveness"])
def test_what_the_sidecar_would_answer_itself_is_asked_of_it(
    kind: str, handler: dict[str, Any], check: Check
) -> None:
    probe = {**handler, "periodSeconds": 7, "timeoutSeconds": 3, "failureThreshold": 2}
    container, checks = patched(pod_with(**{f"{kind}Probe": probe}))
    times = {"periodSeconds": 7, "timeoutSeconds": 3, "failureThreshold": 2}
    assert container[f"{kind}Probe"] == {**asks(f"app/{kind}"), **times}
    assert checks == {f"app/{kind}": check}


@pytest.mark.parametrize(
    "probe",
    [
        {"httpGet": {"port": 8080, "path": "/up"}},
        {"exec": {"command": ["true"]}},
        {"tcpSocket": {"port": 9000}},  # excluded: the kubelet reaches the app
        {"tcpSocket": {"port": 5432, "host": "192.0.2.1"}},
        {"tcpSocket": {"port": "nobody"}},
        {"httpGet": {"port": 8443, "scheme": "HTTPS", "host": "192.0.2.1"}},
    ],
)
def test_what_the_kubelet_can_do_is_left_to_it(probe: dict[str, Any]) -> None:
    pod = pod_with({"smi-mesh.io/exclude-inbound-ports": "9000"}, readinessProbe=probe)
    container, checks = patched(pod)
    assert (container["readinessProbe"], checks) == (probe, {})


def test_without_a_redirect_nothing_needs_to_be_asked() -> None:
    probe = {"tcpSocket": {"port": 5432}}
    container, checks = patched(pod_with(readinessProbe=probe), EXPLICIT)
    assert (container["readinessProbe"], checks) == (probe, {})


def test_native_sidecars_of_the_app_are_probed_too() -> None:
    pod = pod_with()
    probe = {"tcpSocket": {"port": 7000}}
    pod["spec"]["initContainers"] = [
        {"name": "migrate", "image": "m"},
        {"name": "log", "image": "l", "restartPolicy": "Always", "readinessProbe": probe},
    ]
    patch = inject(pod, "shop", SIDECAR, SECRET)
    assert isinstance(patch, list)
    found = {one["name"]: one for one in apply(pod, patch)["spec"]["initContainers"]}
    assert found["log"]["readinessProbe"] == asks("log/readiness")


def test_a_hook_is_called_by_who_can_read_the_pod() -> None:
    hooks = {
        "postStart": {"httpGet": {"port": 8080, "path": "/warm"}},
        "preStop": {"httpGet": {"port": "db", "path": "/stop", "scheme": "HTTPS"}},
    }
    container, checks = patched(pod_with(lifecycle=hooks))
    assert container["lifecycle"] == {
        "postStart": asks(f"app/postStart/{SECRET}"),
        "preStop": asks(f"app/preStop/{SECRET}"),
    }
    assert checks == {
        f"app/postStart/{SECRET}": Check("http", 8080, 30.0, "/warm"),
        f"app/preStop/{SECRET}": Check("https", 5432, 30.0, "/stop"),
    }


def test_names_of_variables_in_a_path_are_not_expanded() -> None:
    probe = {"httpGet": {"port": 1, "scheme": "HTTPS", "path": "/$(HOME)"}}
    pod = pod_with(livenessProbe=probe)
    patch = inject(pod, "shop", SIDECAR)
    assert isinstance(patch, list)
    assert "/$$(HOME)" in json.dumps(patch)


# --- the wait before an app is ended ----------------------------------------------------------------------

WAIT = {"httpGet": {"path": "/withdrawn", "port": 15020, "scheme": "HTTP"}}


def seconds(pod: dict[str, Any]) -> str:
    patch = inject(pod, "shop", SIDECAR)
    assert isinstance(patch, list)
    proxy = next(
        one for one in apply(pod, patch)["spec"]["initContainers"] if one["name"] == "smi-mesh-proxy"
    )
    return next((one["value"] for one in proxy["env"] if one["name"] == "SMI_MESH_WITHDRAW_SECONDS"), "")


@pytest.mark.parametrize("sidecar", [SIDECAR, EXPLICIT], ids=["iptables", "explicit"])
def test_an_app_is_kept_until_nobody_calls_it(sidecar: Any) -> None:
    assert patched(pod_with(), sidecar)[0]["lifecycle"] == {"preStop": WAIT}
    started = {"postStart": {"exec": {"command": ["true"]}}}
    assert patched(pod_with(lifecycle=started), sidecar)[0]["lifecycle"] == {**started, "preStop": WAIT}
    own = {"preStop": {"sleep": {"seconds": 5}}}
    assert patched(pod_with(lifecycle=own), sidecar)[0]["lifecycle"] == own


@pytest.mark.parametrize(
    ("grace", "given", "expected"),
    [
        (None, "", "10"),
        (30, "", "10"),
        (5, "", "2.5"),
        (1, "", "0.5"),
        (0, "", ""),
        (30, "0", ""),
        (60, "20", "20"),
        (30, "20", "15"),
    ],
)
def test_for_at_most_half_of_the_time_there_is(grace: int | None, given: str, expected: str) -> None:
    pod = pod_with({"smi-mesh.io/withdraw-seconds": given} if given else {})
    pod["spec"]["terminationGracePeriodSeconds"] = grace
    assert seconds(pod) == expected
    if not expected:
        assert "lifecycle" not in patched(pod)[0]


@pytest.mark.parametrize("text", ["soon", "-1", "601", "1.5"])
def test_a_time_that_cannot_be_is_refused(text: str) -> None:
    refused = inject(pod_with({"smi-mesh.io/withdraw-seconds": text}), "shop", SIDECAR)
    assert isinstance(refused, Refused)
    assert "smi-mesh.io/withdraw-seconds" in refused.message
