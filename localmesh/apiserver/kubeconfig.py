"""Kubeconfig files: how a client finds this cluster and proves who it is."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import yaml


@dataclass(frozen=True, slots=True)
class Credentials:
    """Either a client certificate with key (PEM) or a bearer token."""

    certificate: bytes = b""
    key: bytes = b""
    token: str = ""


def render(server: str, authority: bytes, credentials: Credentials, *, name: str = "localmesh") -> bytes:
    """YAML of a kubeconfig with one cluster, one user and one context, all called `name`."""
    user: dict[str, str] = {}
    if credentials.token:
        user["token"] = credentials.token
    else:
        user["client-certificate-data"] = base64.b64encode(credentials.certificate).decode()
        user["client-key-data"] = base64.b64encode(credentials.key).decode()
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority).decode()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
    }
    return yaml.safe_dump(config, sort_keys=False).encode()
