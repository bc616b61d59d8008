"""A small typed Kubernetes client for the controller's few direct calls, and its login.

Watching is kopf's work; this is for Secrets, TokenReviews, status, Events and webhook registration.
Knows HTTP and Kubernetes' Status errors, and nothing of what the objects mean.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import kopf
import yaml

Object = dict[str, Any]
"""A Kubernetes object as parsed JSON."""

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_METADATA: Final = "application/json;as={};g=meta.k8s.io;v=v1"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0, connect=5.0)


class KubeError(Exception):
    """The API server refused a call (`status` is the HTTP status) or was not reached (`status` 0)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason})" if reason else message)
        self.status = status
        self.reason = reason

    @property
    def absent(self) -> bool:
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Somebody else wrote first: read again, then try again."""
        return self.status == 409


class Api(Protocol):
    """The calls the rest of the controller makes. Paths are absolute; all raise KubeError."""

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Object: ...

    async def create(self, path: str, obj: Object) -> Object: ...

    async def replace(self, path: str, obj: Object) -> Object: ...

    async def merge(self, path: str, patch: Object) -> Object: ...


def login(env: Mapping[str, str], account: Path = _ACCOUNT) -> kopf.ConnectionInfo:
    """Where the API server is and who we are: KUBECONFIG if set, else the pod's service account.

    Read anew at each call, because bound tokens are rotated on disk. Raises kopf.LoginError.
    """
    if env.get("KUBECONFIG"):
        info = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
        if info is None:
            raise kopf.LoginError("KUBECONFIG is set but names no file")
        return info if info.token else dataclasses.replace(info, token=_token_of_file(env["KUBECONFIG"]))
    host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        token = (account / "token").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise kopf.LoginError(
            f"cannot read {account / 'token'} ({error.strerror}); "
            "set KUBECONFIG, or run in a pod whose service account token is mounted"
        ) from error
    if not host:
        raise kopf.LoginError("KUBERNETES_SERVICE_HOST is not set; set it or KUBECONFIG")
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return kopf.ConnectionInfo(
        server=f"https://{authority}", ca_path=str(account / "ca.crt"), token=token, priority=0
    )


def _token_of_file(kubeconfig: str) -> str | None:
    """The token that `tokenFile` of the current user names: kopf reads only inline tokens."""
    try:
        config = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))
        contexts = {entry["name"]: entry["context"] for entry in config["contexts"]}
        users = {entry["name"]: entry["user"] for entry in config["users"]}
        file = users[contexts[config["current-context"]]["user"]].get("tokenFile")
        return Path(file).read_text(encoding="utf-8").strip() if file else None
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise kopf.LoginError(f"cannot use KUBECONFIG={kubeconfig}: {error!r}") from error


class Kube:
    """The client. One session; a 401 logs in again once, because tokens are rotated."""

    def __init__(self, login: Callable[[], kopf.ConnectionInfo]) -> None:
        self._login = login
        self._session: aiohttp.ClientSession | None = None
        self._server = ""

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Object:
        return await self._call("GET", path, None, params)

    async def metadata(self, path: str) -> Object:
        """One object without spec and status."""
        return await self._call("GET", path, None, accept=_METADATA.format("PartialObjectMetadata"))

    async def metadata_list(self, path: str, params: Mapping[str, str]) -> Object:
        """A list of objects without spec and status."""
        accept = _METADATA.format("PartialObjectMetadataList")
        return await self._call("GET", path, None, params, accept=accept)

    async def create(self, path: str, obj: Object) -> Object:
        return await self._call("POST", path, obj)

    async def replace(self, path: str, obj: Object) -> Object:
        return await self._call("PUT", path, obj)

    async def merge(self, path: str, patch: Object) -> Object:
        """JSON merge patch (RFC 7386)."""
        return await self._call("PATCH", path, patch)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _call(
        self,
        method: str,
        path: str,
        body: Object | None,
        params: Mapping[str, str] | None = None,
        *,
        accept: str = "application/json",
    ) -> Object:
        try:
            return await self._once(method, path, body, params, accept)
        except KubeError as error:
            if error.status != 401:
                raise
        await self.close()
        return await self._once(method, path, body, params, accept)

    async def _once(
        self, method: str, path: str, body: Object | None, params: Mapping[str, str] | None, accept: str
    ) -> Object:
        session = self._session or self._open()
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            async with session.request(
                method,
                self._server + path,
                params=params,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Accept": accept} | ({} if body is None else {"Content-Type": content_type}),
            ) as response:
                text = await response.read()
                return _answer(method, path, response.status, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = str(error) or type(error).__name__
            raise KubeError(0, "Unreachable", f"{method} {path}: {what}") from error

    def _open(self) -> aiohttp.ClientSession:
        try:
            info = self._login()
        except (kopf.LoginError, OSError, ValueError, KeyError) as error:
            raise KubeError(0, "Login", f"cannot log in to the API server: {error}") from error
        self._server = info.server.rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=info.as_ssl_context(), limit=16),
            headers={
                **info.as_http_headers(),
                "User-Agent": "smi-mesh-controller",
            },
            timeout=_TIMEOUT,
        )
        return self._session


def _answer(method: str, path: str, status: int, text: bytes) -> Object:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if status < 400 and isinstance(parsed, dict):
        return parsed
    detail = parsed if isinstance(parsed, dict) else {}
    message = str(detail.get("message") or text[:200].decode(errors="replace") or "no message")
    raise KubeError(status, str(detail.get("reason") or ""), f"{method} {path}: {status} {message}")
