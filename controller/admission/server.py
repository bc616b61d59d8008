"""The webhooks as an aiohttp application: /mutate-pods, /validate, /convert.

Only the envelopes of admission.k8s.io/v1 are handled here; decisions are `inject`, `validate` and
`conversion`. A request that cannot be understood is refused, never waved through.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from controller.admission.conversion import Convert, convert_review
from controller.admission.inject import Refused, Sidecar, Skipped, inject
from controller.admission.validate import Verdict, validate
from controller.metrics import Metrics

_log = logging.getLogger(__name__)

MUTATE_PATH: Final = "/mutate-pods"
VALIDATE_PATH: Final = "/validate"
CONVERT_PATH: Final = "/convert"
MAX_BODY: Final = 32 << 20
"""A ConversionReview carries a whole page of a list."""
_MANY_OBJECTS: Final = 50
_BODY_SECONDS: Final = 10.0

Answer = dict[str, Any]


def webhook_app(sidecar: Callable[[], Sidecar], convert: Convert, metrics: Metrics) -> web.Application:
    """The application. `sidecar` is asked at each pod, because the trust bundle changes over time."""

    async def mutate(request: web.Request) -> web.Response:
        review = await _review(request)
        answer, outcome = _mutate(review["request"], sidecar())
        metrics.admissions.labels(MUTATE_PATH, outcome).inc()
        return _respond(review, answer)

    async def judge(request: web.Request) -> web.Response:
        review = await _review(request)
        asked = review["request"]
        mesh = sidecar()
        found = validate(
            str(asked.get("operation") or ""),
            asked.get("object"),
            trust_domain=mesh.trust_domain,
            cluster_domain=mesh.cluster_domain,
        )
        metrics.admissions.labels(VALIDATE_PATH, "allowed" if found.allowed else "refused").inc()
        return _respond(review, _from_verdict(found))

    async def change(request: web.Request) -> web.Response:
        review = await _review(request)
        if len(review["request"].get("objects") or ()) > _MANY_OBJECTS:
            answer = await asyncio.to_thread(convert_review, review, convert)
        else:
            answer = convert_review(review, convert)
        status = answer["response"]["result"]["status"]
        metrics.admissions.labels(CONVERT_PATH, status.lower()).inc()
        return web.json_response(answer)

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post(MUTATE_PATH, mutate)
    app.router.add_post(VALIDATE_PATH, judge)
    app.router.add_post(CONVERT_PATH, change)
    return app


async def _review(request: web.Request) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            review = await request.json()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="the body must be JSON") from None
    if not isinstance(review, dict) or not isinstance(review.get("request"), dict):
        raise web.HTTPBadRequest(text="the body must be a review with a 'request'")
    return review


def _respond(review: dict[str, Any], answer: Answer) -> web.Response:
    return web.json_response(
        {
            "apiVersion": review.get("apiVersion", "admission.k8s.io/v1"),
            "kind": "AdmissionReview",
            "response": {"uid": str(review["request"].get("uid") or ""), **answer},
        }
    )


def _mutate(asked: dict[str, Any], sidecar: Sidecar) -> tuple[Answer, str]:
    pod, namespace = asked.get("object"), str(asked.get("namespace") or "")
    if not isinstance(pod, dict) or not isinstance(pod.get("spec"), dict):
        return _refusal("the request holds no pod"), "refused"
    outcome = inject(pod, namespace, sidecar, secret=secrets.token_urlsafe(16))
    name = (pod.get("metadata") or {}).get("name") or (pod.get("metadata") or {}).get("generateName")
    if isinstance(outcome, Skipped):
        _log.info("no sidecar for pod %s/%s: %s", namespace, name, outcome.reason)
        return {"allowed": True}, "skipped"
    if isinstance(outcome, Refused):
        _log.warning("pod %s/%s cannot be meshed: %s", namespace, name, outcome.message)
        return _refusal(f"smi-mesh cannot inject its sidecar: {outcome.message}"), "refused"
    patch = base64.b64encode(json.dumps(outcome).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": patch}, "injected"


def _from_verdict(found: Verdict) -> Answer:
    answer: Answer = {"allowed": True} if found.allowed else _refusal(found.message)
    if found.warnings:
        answer["warnings"] = list(found.warnings)
    return answer


def _refusal(message: str) -> Answer:
    return {"allowed": False, "status": {"code": 403, "reason": "Forbidden", "message": message}}
