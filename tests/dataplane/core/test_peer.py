"""Names in certificates."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.core.peer import peer_of, spiffe_id
from smi.names import pod_dns_san
from smi.policy.access import Peer

WEB = "spiffe://cluster.local/ns/shop/sa/web"


def certificate(*names: tuple[str, str]) -> dict[str, Any]:
    return {"subjectAltName": names}


def test_identity_and_pod() -> None:
    found = peer_of(certificate(("URI", WEB), ("DNS", pod_dns_san("shop", "web-1"))))
    assert found == Peer(WEB, "shop/web-1")


def test_a_pod_name_may_contain_dots() -> None:
    found = peer_of(certificate(("URI", WEB), ("DNS", pod_dns_san("shop", "web.v1.0"))))
    assert found == Peer(WEB, "shop/web.v1.0")


@pytest.mark.parametrize(
    "names",
    [
        [],
        [pod_dns_san("shop", "a"), pod_dns_san("shop", "b")],
        ["a.shop.svc"],
        ["pod.smi-mesh.internal"],
        ["shop.pod.smi-mesh.internal"],
    ],
)
def test_without_one_proper_name_there_is_no_pod(names: list[str]) -> None:
    found = peer_of(certificate(("URI", WEB), *(("DNS", name) for name in names)))
    assert found == Peer(WEB, None)


@pytest.mark.parametrize(
    "made",
    [
        None,
        {},
        certificate(),
        certificate(("URI", WEB), ("URI", WEB + "2")),
        certificate(("URI", "http://a")),
    ],
)
def test_what_is_no_identity(made: dict[str, Any] | None) -> None:
    assert spiffe_id(made) is None
    assert peer_of(made) is None
