"""What the sidecar adds to the policy's own decisions."""

from __future__ import annotations

import pytest

from dataplane.core.inbound import admit_connection, admit_request, caller_fields, protocols, spoken_as
from smi.policy.access import Denial, Peer, Permit, compile_access
from smi.policy.match import Request
from smi.policy.snapshot import Grant, Inbound, InboundPort, PortSet, Protocol, RouteMatch

WEB = Peer("spiffe://cluster.local/ns/shop/sa/web", "shop/web-1")
API = "spiffe://cluster.local/ns/shop/sa/api"
GET = Request(b"GET", b"/", b"api")


def test_without_config_nothing_passes() -> None:
    for verdict in (admit_request(None, WEB, 80, GET), admit_connection(None, None, 80)):
        assert isinstance(verdict, Denial)
        assert verdict.reason == "no-config"


def test_requests_and_connections_are_decided_by_the_policy() -> None:
    any_get = RouteMatch("shop/g", "m", None, frozenset({"GET"}), ())
    grants = (
        Grant("shop/http", frozenset({WEB.identity}), http=(any_get,)),
        Grant("shop/tcp", frozenset({WEB.identity}), tcp=PortSet(ports=frozenset({5432}))),
    )
    access = compile_access(Inbound("shop/api-1", API, grants=grants))
    assert isinstance(admit_request(access, WEB, 80, GET), Permit)
    assert isinstance(admit_connection(access, WEB, 80), Denial)
    assert isinstance(admit_connection(access, WEB, 5432), Permit)
    assert isinstance(admit_request(access, None, 80, GET), Denial)


def test_declared_protocols() -> None:
    ports = (InboundPort(80, Protocol.HTTP), InboundPort(5432, Protocol.TCP))
    assert protocols(compile_access(Inbound("shop/api-1", API, ports=ports))) == {
        80: Protocol.HTTP,
        5432: Protocol.TCP,
    }
    assert protocols(None) == {}


@pytest.mark.parametrize(
    ("protocol", "http"),
    [
        (Protocol.HTTP, True),
        (Protocol.DETECT, None),
        (Protocol.TCP, False),
        (Protocol.TLS, False),
        (Protocol.GRPC, True),
        (Protocol.HTTP2, True),
    ],
)
def test_treatment_of_protocols(protocol: Protocol, http: bool | None) -> None:
    assert spoken_as(protocol) is http


def test_the_app_is_told_who_calls() -> None:
    who, where = f"x-forwarded-client-cert: By={API};URI={WEB.identity}\r\n", "x-forwarded-for: 10.1.2.3\r\n"
    assert caller_fields(API, WEB, "10.1.2.3") == (who + where).encode()
    assert caller_fields(API, None, "10.1.2.3") == where.encode()
    assert caller_fields(API, None, "") == b""
