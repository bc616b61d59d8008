"""`POST /v1/sign`: a certificate for the pod that a bound service-account token proves.

The names in the certificate come from the API server's TokenReview, never from the CSR. Knows HTTP
and TokenReview; what a caller may get is `ca.policy`'s decision. No token is ever logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from controller.ca.authority import Authority
from controller.ca.issue import Leaf, read_csr
from controller.ca.policy import Caller, RefusedError, workload_names
from controller.compile.read import from_kubernetes
from controller.compile.world import Pod
from controller.kube import Api, KubeError
from controller.metrics import Metrics
from smi.names import TOKEN_AUDIENCE, Workload

_log = logging.getLogger(__name__)

MAX_BODY: Final = 64 << 10
_MAX_AT_ONCE: Final = 32
_BODY_SECONDS: Final = 5.0
_TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # a path, not a secret
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"


Known = Callable[[str, str], Workload | None]
"""Namespace and name of a pod → what it is an instance of; None: no such pod has been seen yet."""


def sign_app(
    authority: Authority, api: Api, metrics: Metrics, trust_domain: str, known: Known = lambda *_: None
) -> web.Application:
    """The signing endpoint as an aiohttp application. `known` saves asking the API server for the pod."""
    at_once = asyncio.Semaphore(_MAX_AT_ONCE)

    async def sign(request: web.Request) -> web.Response:
        try:
            csr, token = _read(await _body(request))
            async with at_once:
                caller = await review(api, token)
                workload = await _workload(api, caller, known)
            names = workload_names(caller, TOKEN_AUDIENCE, trust_domain, workload)
            leaf = authority.sign(read_csr(csr), names)
        except RefusedError as error:
            metrics.signings.labels("refused").inc()
            _log.warning("no certificate for %s: %s", request.remote, error)
            return web.json_response({"error": str(error)}, status=403)
        except KubeError as error:
            metrics.signings.labels("unavailable").inc()
            _log.error("cannot review a token: %s", error)
            return web.json_response({"error": "tokens cannot be reviewed now; try again"}, status=503)
        metrics.signings.labels("issued").inc()
        _log.info("issued a certificate for %s (%s)", names.uri, names.dns[0])
        return web.json_response(_answer(leaf, authority.bundle))

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post("/v1/sign", sign)
    return app


async def _body(request: web.Request) -> Any:
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await request.json()
    except TimeoutError:
        raise RefusedError("the body did not arrive in time") from None
    except (ValueError, RecursionError):
        raise RefusedError("the body must be JSON") from None


def _read(body: Any) -> tuple[str, str]:
    if isinstance(body, dict):
        csr, token = body.get("csr"), body.get("token")
        if isinstance(csr, str) and isinstance(token, str) and token:
            return csr, token
    raise RefusedError("the body must be an object with the strings 'csr' (PEM) and 'token' (JWT)")


def _answer(leaf: Leaf, bundle: str) -> dict[str, str]:
    return {
        "certificates": leaf.chain_pem,
        "trust_bundle": bundle,
        "not_after": leaf.not_after.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }


async def review(api: Api, token: str) -> Caller:
    """Ask the API server whose token this is. Raises RefusedError: nobody's; KubeError: it cannot say."""
    answer = await api.create(
        _TOKEN_REVIEWS,
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [TOKEN_AUDIENCE]},
        },
    )
    status = answer.get("status") or {}
    if status.get("authenticated") is not True:
        raise RefusedError(f"the token is not valid: {status.get('error') or 'not authenticated'}")
    user = status.get("user") or {}
    pods = (user.get("extra") or {}).get(_POD_NAME) or []
    return Caller(
        username=str(user.get("username") or ""),
        audiences=tuple(str(one) for one in status.get("audiences") or ()),
        pod=str(pods[0]) if len(pods) == 1 else None,
    )


async def _workload(api: Api, caller: Caller, known: Known) -> Workload:
    """What the caller's pod is an instance of. Only telemetry misses it where it cannot be found out."""
    namespace, pod = caller.namespace, caller.pod
    if not namespace or not pod:
        return Workload()  # refused in a moment
    found = known(namespace, pod)
    if found is None:
        try:
            obj = await api.get(f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}")
        except KubeError as error:
            _log.warning(
                "cannot read pod %s/%s: its metrics will not name its workload: %s", namespace, pod, error
            )
            return Workload()
        value = from_kubernetes("Pod", obj).value
        found = value.workload if isinstance(value, Pod) else Workload()
    return found
