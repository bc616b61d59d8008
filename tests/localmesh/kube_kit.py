"""A blocking client for end-to-end tests: the kubeconfig a cluster wrote, plain HTTPS, JSON."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml


class Kube:
    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._place = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n")
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            self._tls.load_cert_chain(pair.name)

    def call(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._place.hostname or "", self._place.port, context=self._tls, timeout=10
        )
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": kind, "Accept": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> dict[str, Any]:
        """The object at `path`, {} when it is not there."""
        code, body = self.call("GET", path)
        return json.loads(body) if code == 200 else {}

    def create(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        code, body = self.call("POST", path, obj)
        assert code in (200, 201), body
        return json.loads(body)  # type: ignore[no-any-return]  # JSON

    def log(self, namespace: str, pod: str) -> str:
        code, body = self.call("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log")
        return body.decode() if code == 200 else ""

    def pod_ready(self, namespace: str, pod: str) -> bool:
        conditions = (
            self.get(f"/api/v1/namespaces/{namespace}/pods/{pod}").get("status", {}).get("conditions") or []
        )
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def eventually(condition: Callable[[], Any], what: str, deadline_s: float = 15.0) -> Any:
    """Poll until `condition()` is true; returns its value."""
    limit = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > limit:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.02)
    return value
