"""Tells the API server which CA our webhooks answer with: `caBundle` in their registrations.

The registrations themselves are installed by the manifests; whoever installs them again resets
`caBundle`, so it is looked after for as long as the controller runs.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from typing import Any, Final

from controller.kube import Api, KubeError, Object
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE

_log = logging.getLogger(__name__)

WEBHOOKS_NAME: Final = "smi-mesh"
"""Name of both webhook configurations."""
_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
CONFIGURATIONS: Final = (
    f"{_ADMISSION}/mutatingwebhookconfigurations/{WEBHOOKS_NAME}",
    f"{_ADMISSION}/validatingwebhookconfigurations/{WEBHOOKS_NAME}",
)
API_SERVICE: Final = "v1alpha1.metrics.smi-spec.io"
API_SERVICE_PATH: Final = f"/apis/apiregistration.k8s.io/v1/apiservices/{API_SERVICE}"
_CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_FIRST_PAUSE: Final = 0.2
_LAST_PAUSE: Final = 20.0


async def register(api: Api, ca_bundle: str, crd_names: tuple[str, ...]) -> tuple[str, ...]:
    """Put `ca_bundle` (PEM) wherever it is missing; returns what was not found. Raises KubeError."""
    encoded = base64.b64encode(ca_bundle.encode()).decode()
    places = [(path, _webhooks_patch) for path in CONFIGURATIONS]
    places += [(f"{_CRDS}/{name}", _conversion_patch) for name in crd_names]
    places.append((API_SERVICE_PATH, _api_service_patch))
    return tuple([path for path, patch in places if not await _amend(api, path, encoded, patch)])


async def keep_registered(api: Api, ca_bundle: Callable[[], str], crd_names: tuple[str, ...]) -> None:
    """Register until everything is found, then look again every 20 s, for ever."""
    pause, told = _FIRST_PAUSE, ""
    while True:
        try:
            missing = await register(api, ca_bundle(), crd_names)
            trouble = f"not found: {', '.join(missing)}" if missing else ""
        except KubeError as error:
            trouble = str(error)
        if trouble and trouble != told:
            _log.warning("webhooks are not all registered, trying again: %s", trouble)
        told = trouble
        pause = min(pause * 2, 2.0) if trouble else _LAST_PAUSE
        await asyncio.sleep(pause)


async def _amend(api: Api, path: str, encoded: str, patch_of: Callable[[Object, str], Object | None]) -> bool:
    """Read, patch if needed; False if there is no such object. A concurrent change is tried again once."""
    for attempt in range(2):
        try:
            obj = await api.get(path)
            patch = patch_of(obj, encoded)
            if patch is not None:
                # With resourceVersion, because a merge patch replaces lists whole.
                patch["metadata"] = {"resourceVersion": obj["metadata"]["resourceVersion"]}
                await api.merge(path, patch)
        except KubeError as error:
            if error.absent:
                return False
            if not error.conflict or attempt:
                raise
        else:
            return True
    return True


def _webhooks_patch(obj: Object, encoded: str) -> Object | None:
    webhooks: list[dict[str, Any]] = obj.get("webhooks") or []
    amended = [_with_bundle(one, encoded) if _is_ours(one.get("clientConfig")) else one for one in webhooks]
    return None if amended == webhooks else {"webhooks": amended}


def _with_bundle(webhook: dict[str, Any], encoded: str) -> dict[str, Any]:
    return {**webhook, "clientConfig": {**webhook["clientConfig"], "caBundle": encoded}}


def _conversion_patch(obj: Object, encoded: str) -> Object | None:
    webhook = ((obj.get("spec") or {}).get("conversion") or {}).get("webhook") or {}
    config = webhook.get("clientConfig") or {}
    if not _is_ours(config) or config.get("caBundle") == encoded:
        return None
    return {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": encoded}}}}}


def _api_service_patch(obj: Object, encoded: str) -> Object | None:
    spec = obj.get("spec") or {}
    if not _is_ours(spec) or spec.get("caBundle") == encoded:
        return None
    return {"spec": {"caBundle": encoded}}


def _is_ours(config: dict[str, Any] | None) -> bool:
    service = (config or {}).get("service") or {}
    return (service.get("namespace"), service.get("name")) == (SYSTEM_NAMESPACE, CONTROLLER_NAME)
