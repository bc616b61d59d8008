"""Readers: tolerant, blind to what the compiler does not use, and precise about what they refuse."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compile.read import CORE_KINDS, SMI_KINDS, from_kubernetes
from controller.compile.world import EndpointSlice, Namespace, Pod, Service, Settings, World
from smi.findings import Reason, Severity
from smi.policy.snapshot import InboundPort, Mode, Mtls, Probe, Protocol, Regex
from tests.controller.compile import build

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSONS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(obj: build.Obj) -> Any:
    reading = from_kubernetes(obj["kind"], obj)
    assert reading.findings == ()
    return reading.value


def test_service_ports_say_what_is_spoken() -> None:
    ports = [
        {"port": 80, "name": "http-web"},
        {"port": 81, "name": "http", "appProtocol": "kubernetes.io/h2c"},
        {"port": 82, "name": "mysql"},
        {"port": 83, "name": "http", "appProtocol": "example.com/own"},
        {"port": 84, "name": "https-admin"},
        {"port": 85},
        {"port": 86, "name": "grpc", "protocol": "UDP"},
        {"port": 87, "name": "gone", "protocol": "SCTP"},
    ]
    service = read(build.service("api", ports, ip="10.96.0.5"))
    assert isinstance(service, Service)
    assert service.addresses == ("10.96.0.5",)
    assert not service.headless
    assert [(port.port, port.protocol) for port in service.ports] == [
        (80, Protocol.HTTP),
        (81, Protocol.HTTP2),
        (82, Protocol.TCP),
        (83, Protocol.TCP),
        (84, Protocol.TLS),
        (85, Protocol.DETECT),
        (86, Protocol.UDP),
    ]


def test_a_tcp_port_named_for_udp_is_said() -> None:
    """The transport decides; that the name means nothing is a finding."""
    ports = [
        {"name": "udp-dns", "port": 53, "protocol": "UDP"},
        {"name": "UDP-odd", "port": 54},
        {"name": "udp", "port": 55, "appProtocol": "http"},
        {"name": "udpish", "port": 56, "protocol": "TCP"},
    ]
    found = from_kubernetes("Service", build.service("odd", ports))
    assert isinstance(found.value, Service)
    assert [port.protocol for port in found.value.ports] == [
        Protocol.UDP,
        Protocol.DETECT,
        Protocol.HTTP,
        Protocol.DETECT,
    ]
    [finding] = found.findings
    assert (finding.reason, finding.severity) == (Reason.PORT_NAME, Severity.WARNING)
    assert finding.field == "spec.ports[1].name"
    assert "'UDP-odd'" in finding.message


def test_target_ports_are_numbers_or_names() -> None:
    ports = [{"port": 1}, {"port": 2, "targetPort": 8080}, {"port": 3, "targetPort": "8081"}]
    service = read(build.service("api", [*ports, {"port": 4, "targetPort": "web"}]))
    assert [port.target for port in service.ports] == [1, 8080, 8081, "web"]


def test_headless_and_external_services() -> None:
    headless = read(build.service("db"))
    assert headless.headless
    assert headless.addresses == ()
    external = build.service("away", ip="")
    external["spec"]["type"] = "ExternalName"
    assert read(external).ports == ()


def test_pod_keeps_what_matters() -> None:
    container = {
        "ports": [
            {"containerPort": 8080, "name": "http"},
            {"containerPort": 53, "protocol": "UDP"},
            {"containerPort": 132, "protocol": "SCTP"},
        ],
        "readinessProbe": {"httpGet": {"port": "http", "path": "/ready//now?full=1"}},
        "livenessProbe": {"httpGet": {"port": 8081, "path": "live"}},
        "startupProbe": {"httpGet": {"port": 8081, "path": "/", "scheme": "HTTPS"}},
    }
    sidecar = {
        "restartPolicy": "Always",
        "readinessProbe": {"httpGet": {"port": 15020, "path": "/ready"}},
    }
    obj = build.pod("api-0", "10.1.0.1", sa="api", containers=[container])
    obj["spec"]["initContainers"] = [sidecar, {"livenessProbe": {"httpGet": {"port": 1}}}]
    pod = read(obj)
    assert isinstance(pod, Pod)
    assert pod.ips == ("10.1.0.1",)
    assert pod.service_account == "api"
    assert pod.meshed
    assert pod.ready
    assert pod.ports == (InboundPort(53, Protocol.UDP), InboundPort(8080, Protocol.HTTP))
    assert pod.probes == (Probe(8080, "/ready/now"), Probe(8081, "/live"))


def test_addresses_a_pod_does_not_have_for_itself() -> None:
    host = build.pod("host", "192.168.0.1")
    host["spec"]["hostNetwork"] = True
    done = build.pod("done", "10.1.0.1")
    done["status"]["phase"] = "Succeeded"
    assert read(host).ips == read(done).ips == ()


def test_excluded_ports_and_their_typos() -> None:
    annotations = {"smi-mesh.io/exclude-inbound-ports": "9000, 9001,web,70000"}
    reading = from_kubernetes("Pod", build.pod("api-0", "10.1.0.1", annotations=annotations))
    assert isinstance(reading.value, Pod)
    assert {9000, 9001, 15008, 15020} <= reading.value.exclude_inbound
    assert [finding.reason for finding in reading.findings] == [Reason.UNKNOWN_SETTING] * 2


def test_namespace_and_mesh_settings() -> None:
    space = read(build.namespace("shop", mode="audit", mtls="permissive", regex="full"))
    assert space == Namespace("shop", Mode.AUDIT, Mtls.PERMISSIVE, Regex.FULL)
    assert read(build.settings(mode="permissive", sameServiceAccount="allow")) == Settings(
        mode=Mode.PERMISSIVE, same_service_account=True
    )
    other = build.settings(mode="bad")
    other["metadata"]["namespace"] = "shop"
    assert read(other) is None


def test_an_unknown_setting_is_ignored_and_said() -> None:
    reading = from_kubernetes("Namespace", build.namespace("shop", mode="lax", mtls="permissive"))
    assert reading.value == Namespace("shop", None, Mtls.PERMISSIVE, None)
    (finding,) = reading.findings
    assert finding.severity is Severity.WARNING
    assert "enforce, permissive, audit" in finding.message


def test_slice_conditions_default_to_ready() -> None:
    entry = {"addresses": ["10.1.0.1"], "conditions": {}}
    found = read(build.endpoint_slice("api", [entry, build.endpoint("api-0", "10.1.0.2", ready=False)]))
    assert isinstance(found, EndpointSlice)
    assert [(entry.address, entry.ready) for entry in found.endpoints] == [
        ("10.1.0.1", True),
        ("10.1.0.2", False),
    ]


def test_a_wrong_type_is_one_finding_with_its_path() -> None:
    obj = build.service("api", [{"port": 80}, {"port": "eighty"}])
    reading = from_kubernetes("Service", obj)
    assert reading.value is None
    (finding,) = reading.findings
    assert finding.severity is Severity.ERROR
    assert finding.field == "spec.ports[1].port"


@pytest.mark.parametrize(("ns", "name"), [("", "api"), ("shop", ""), ("shop", "a/b"), ("a/b", "api")])
def test_an_object_that_no_key_can_name(ns: str, name: str) -> None:
    reading = from_kubernetes("Pod", build.pod(name, "10.1.0.1", ns=ns))
    assert reading.value is None
    assert [finding.severity for finding in reading.findings] == [Severity.ERROR]


def test_a_probe_path_that_no_request_can_have() -> None:
    container = {
        "livenessProbe": {"httpGet": {"port": 8080, "path": "/%zz"}},
        "readinessProbe": {"httpGet": {"port": "nowhere", "path": "/"}},
    }
    reading = from_kubernetes("Pod", build.pod("api-0", "10.1.0.1", containers=[container]))
    assert isinstance(reading.value, Pod)
    assert reading.value.probes == ()
    (finding,) = reading.findings
    assert finding.field == "spec.containers[0].livenessProbe.httpGet.path"


def test_an_object_of_another_kind_than_announced() -> None:
    reading = from_kubernetes("TrafficSplit", build.tcp_route("t", 80))
    assert reading.value is None
    assert reading.ref.kind == "TrafficSplit"
    assert [finding.reason for finding in reading.findings] == [Reason.INVALID]


def test_fields_out_of_range() -> None:
    port = from_kubernetes("Service", build.service("api", [{"port": 65536}]))
    assert [finding.field for finding in port.findings] == ["spec.ports[0].port"]
    text = from_kubernetes("Service", build.service("api", [{"port": True}]))
    assert [finding.message for finding in text.findings] == ["expected a whole number, got bool"]
    obj = build.endpoint_slice("api", [{"addresses": []}], [{"port": 1, "protocol": "SCTP"}, {"name": "any"}])
    found = read(obj)
    assert (found.ports, found.endpoints) == ((), ())


def test_an_unreadable_smi_object_is_still_known() -> None:
    obj = build.split("api", "api", {"v1": 1})
    obj["spec"]["backends"] = "all"
    world = build.world_of([obj])
    assert world.splits == {}
    (known,) = world.smi_objects
    assert (known.readable, known.uid, known.generation) == (False, "uid-api", 1)


def test_irrelevant_changes_keep_the_digest() -> None:
    one, two = build.pod("api-0", "10.1.0.1"), build.pod("api-0", "10.1.0.1")
    two["metadata"]["resourceVersion"] = "77"
    two["status"]["conditions"][0]["lastProbeTime"] = "2026-01-01T00:00:00Z"
    assert from_kubernetes("Pod", one) == from_kubernetes("Pod", two)
    one, two = build.split("api", "api", {"v1": 1}), build.split("api", "api", {"v1": 1})
    two["status"] = {"conditions": []}
    assert from_kubernetes("TrafficSplit", one).digest == from_kubernetes("TrafficSplit", two).digest
    two["spec"]["backends"][0]["weight"] = 2
    assert from_kubernetes("TrafficSplit", one).digest != from_kubernetes("TrafficSplit", two).digest


def test_read_only_views_read_as_dicts_do() -> None:
    """kopf hands out mapping views."""
    for obj in (build.split("api", "api", {"v1": 1}), build.service("api", ip="10.96.0.1")):
        view = MappingProxyType({key: _view(value) for key, value in obj.items()})
        assert from_kubernetes(obj["kind"], view) == from_kubernetes(obj["kind"], obj)


def _view(value: object) -> object:
    return MappingProxyType(value) if isinstance(value, dict) else value


def test_a_kind_nobody_reads_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="Ingress"):
        from_kubernetes("Ingress", {})


@given(
    kind=st.sampled_from([*CORE_KINDS, *SMI_KINDS]),
    obj=st.dictionaries(st.text(max_size=8), JSONS, max_size=4),
)
def test_nothing_escapes_a_reader(kind: str, obj: dict[str, object]) -> None:
    World.of([from_kubernetes(kind, obj)])


@given(kind=st.sampled_from([*CORE_KINDS, *SMI_KINDS]), data=st.data())
def test_nothing_escapes_a_reader_of_nearly_right_objects(kind: str, data: st.DataObject) -> None:
    """Take a right object and put anything at all in one place of it."""
    whole = next(obj for obj in EXAMPLES if obj["kind"] == kind)
    paths = list(_paths({key: value for key, value in whole.items() if key != "kind"}))
    path = data.draw(st.sampled_from(paths))
    World.of([from_kubernetes(kind, _replaced(whole, path, data.draw(JSONS)))])


EXAMPLES = [
    build.namespace(mode="audit"),
    build.settings(mode="audit"),
    build.service("api", ip="10.96.0.1"),
    build.pod(
        "api-0", "10.1.0.1", containers=[{"ports": [{"containerPort": 1}], "livenessProbe": {"httpGet": {}}}]
    ),
    build.endpoint_slice("api", [build.endpoint("api-0", "10.1.0.1")]),
    build.split("api", "api", {"v1": 1}, matches=["g"]),
    build.target("api", "api", ["web"], [build.http_rule("g", "m")]),
    build.route_group("g", {"name": "m", "pathRegex": "/", "methods": ["GET"], "headers": [{"a": "b"}]}),
    build.tcp_route("t", 80),
    build.smi("UDPRoute", "v1alpha4", "u", {"matches": {"ports": [53]}}),
    build.identity_binding("b", {"serviceAccount": "api"}),
]


def _paths(value: object, path: tuple[str | int, ...] = ()) -> Any:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _replaced(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy
