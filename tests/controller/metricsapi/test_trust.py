"""Whose word about a caller is believed, and what the caller may."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from controller.kube import KubeError
from controller.metricsapi.trust import (
    CONFIG_PATH,
    REVIEWS_PATH,
    Access,
    Caller,
    Doorkeeper,
    FrontDoor,
    Trust,
    TrustError,
)
from localmesh.apiserver import pki
from localmesh.apiserver.frontproxy import FrontProxy
from tests.controller.kubeapi import StoredObjects

NOW = datetime.now(UTC)


def der(pair: pki.KeyPair) -> bytes:
    return x509.load_pem_x509_certificate(pair.certificate).public_bytes(Encoding.DER)


def test_only_the_request_header_authority_and_its_names_are_believed(tmp_path: Path) -> None:
    proxy = FrontProxy.load_or_create(tmp_path / "a")
    trust = Trust.read(proxy.config_map(b""))
    assert trust.believes(der(proxy.client), NOW)
    assert not trust.believes(None, NOW)
    assert not trust.believes(der(proxy.client), NOW + timedelta(days=400))
    assert not trust.believes(der(proxy.client), NOW - timedelta(days=1))
    same_names = FrontProxy.load_or_create(tmp_path / "b")
    assert not trust.believes(der(same_names.client), NOW)
    authority = pki.load_or_create_authority(tmp_path / "a", "front-proxy-ca")
    assert not trust.believes(der(pki.issue_client(authority, "somebody", ())), NOW)
    assert not Trust().believes(der(proxy.client), NOW)


def test_who_the_headers_name() -> None:
    trust = Trust.read(FrontProxy.ephemeral().config_map(b""))
    headers = [
        ("X-Remote-User", "jo"),
        ("x-remote-group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Uid", "u"),
        ("X-Remote-Extra-Example.org%2Fpod", "p"),
        ("Accept", "x"),
    ]
    assert trust.caller(headers) == Caller("jo", "u", ("a", "b"), (("example.org/pod", ("p",)),))
    assert trust.caller(headers[1:]) is None
    assert trust.caller([("X-Remote-User", "jo"), *[("X-Remote-Group", "g")] * 501]) is None


@pytest.mark.parametrize(
    "data",
    [
        {"requestheader-allowed-names": "["},
        {"requestheader-allowed-names": '{"a": 1}'},
        {"requestheader-group-headers": "[1]"},
        {"requestheader-client-ca-file": "-----BEGIN CERTIFICATE-----\nnonsense"},
    ],
)
def test_what_cannot_be_used_is_named(data: dict[str, Any]) -> None:
    with pytest.raises(TrustError, match=next(iter(data))):
        Trust.read({"data": data})


async def test_trust_is_followed_and_a_bad_one_does_not_replace_a_good_one(tmp_path: Path) -> None:
    api = StoredObjects()
    door = FrontDoor(api, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), lambda: NOW)
    headers = [("X-Remote-User", "jo")]
    assert "not be found" in await door._refresh() or door.trust == Trust()
    first, second = (FrontProxy.load_or_create(tmp_path / name) for name in "ab")
    api.put(CONFIG_PATH, first.config_map(b"") | {"metadata": {"name": "x"}})
    assert await door._refresh() == ""
    assert door.caller(der(first.client), headers) == Caller("jo")
    assert door.caller(der(second.client), headers) is None
    broken = first.config_map(b"")
    broken["data"]["requestheader-allowed-names"] = "?"
    api.put(CONFIG_PATH, broken)
    assert "requestheader-allowed-names" in await door._refresh()
    assert door.caller(der(first.client), headers) == Caller("jo")
    api.put(CONFIG_PATH, second.config_map(b""))
    assert await door._refresh() == ""
    assert door.caller(der(second.client), headers) == Caller("jo")
    assert door.caller(der(first.client), headers) is None
    api.put(CONFIG_PATH, {"metadata": {}, "data": {}})
    assert "aggregation layer is off" in await door._refresh()


class Reviewer(StoredObjects):
    """Allows whom it is told to, and remembers what it was asked."""

    def __init__(self, allowed: bool) -> None:
        super().__init__()
        self.allowed = allowed
        self.asked: list[dict[str, Any]] = []

    async def create(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        assert path == REVIEWS_PATH
        self._fail()
        self.asked.append(obj["spec"])
        return {"status": {"allowed": self.allowed}}


async def test_what_is_allowed_is_remembered_for_a_while_and_refusals_are_not() -> None:
    reviewer, now = Reviewer(True), 0.0
    keeper = Doorkeeper(reviewer, lambda: now)
    caller = Caller("jo", "u", ("g",), (("k", ("v",)),))
    access = Access("get", "metrics.smi-spec.io", "v1alpha1", "pods", "edges", "shop", "web-0")
    assert await keeper.may(caller, access)
    assert await keeper.may(caller, access)
    assert json.loads(json.dumps(reviewer.asked)) == [
        {
            "user": "jo",
            "groups": ["g"],
            "extra": {"k": ["v"]},
            "uid": "u",
            "resourceAttributes": {
                "verb": "get",
                "group": "metrics.smi-spec.io",
                "version": "v1alpha1",
                "resource": "pods",
                "subresource": "edges",
                "namespace": "shop",
                "name": "web-0",
            },
        }
    ]
    reviewer.allowed, now = False, 10.5
    assert not await keeper.may(caller, access)
    assert not await keeper.may(caller, access)
    assert len(reviewer.asked) == 3
    reviewer.fails_with = KubeError(500, "", "down")
    with pytest.raises(KubeError):
        await keeper.may(caller, access)
