"""Events about objects: counted instead of repeated, written in the background, forgotten after an hour."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError

_log = logging.getLogger(__name__)

KEPT: Final = timedelta(hours=1)
KNOWN_MAX: Final = 4096
QUEUE_MAX: Final = 1000
SWEEP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Said:
    object: dict[str, Any]
    kind: str
    reason: str
    message: str
    component: str
    moment: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.object.get("uid", ""), self.reason, self.message


def reference(obj: Mapping[str, Any], field_path: str = "") -> dict[str, Any]:
    meta = obj["metadata"]
    found = {
        "apiVersion": obj.get("apiVersion", ""),
        "kind": obj.get("kind", ""),
        "namespace": meta.get("namespace", ""),
        "name": meta["name"],
        "uid": meta.get("uid", ""),
        "resourceVersion": meta.get("resourceVersion", ""),
    }
    return {key: value for key, value in (found | {"fieldPath": field_path}).items() if value}


class EventRecorder:
    """`normal` and `warning` never block and never fail; `run` does the writing."""

    def __init__(self, api: Api, component: str) -> None:
        self._api = api
        self._component = component
        self._queue: asyncio.Queue[_Said] = asyncio.Queue(QUEUE_MAX)
        self._known: OrderedDict[tuple[str, str, str], tuple[str, str, int]] = OrderedDict()

    def named(self, component: str) -> EventRecorder:
        """A recorder that speaks for another component and shares queue and writer."""
        other = EventRecorder(self._api, component)
        other._queue, other._known = self._queue, self._known
        return other

    def normal(self, obj: Mapping[str, Any], reason: str, message: str, field_path: str = "") -> None:
        self._say(obj, "Normal", reason, message, field_path)

    def warning(self, obj: Mapping[str, Any], reason: str, message: str, field_path: str = "") -> None:
        self._say(obj, "Warning", reason, message, field_path)

    def _say(self, obj: Mapping[str, Any], kind: str, reason: str, message: str, field_path: str) -> None:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = _Said(reference(obj, field_path), kind, reason, message[:1024], self._component, moment)
        if self._queue.full():
            _log.warning("event dropped, the queue is full: %s %s", reason, said.object.get("name"))
            return
        self._queue.put_nowait(said)

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            said = await self._queue.get()
            try:
                await self._write(said)
            except ApiError as error:  # its namespace is gone or going: nobody is left to read it
                _log.debug("event %s about %s not written: %s", said.reason, said.object.get("name"), error)

    async def _write(self, said: _Said) -> None:
        known = self._known.get(said.key)
        if known is not None:
            namespace, name, count = known
            patch = {"count": count + 1, "lastTimestamp": said.moment}
            try:
                await self._api.patch("events", namespace, name, patch)
            except ApiError as error:
                if error.code != 404:
                    raise
            else:
                self._known[said.key] = (namespace, name, count + 1)
                return
        namespace = said.object.get("namespace") or "default"
        name = f"{said.object['name']}.{secrets.token_hex(8)}"
        await self._api.create("events", namespace, _event(said, namespace, name))
        self._known[said.key] = (namespace, name, 1)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def sweep(self) -> None:
        """Delete events older than an hour, for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            oldest = (datetime.now(UTC) - KEPT).strftime("%Y-%m-%dT%H:%M:%SZ")
            for event in await self._api.list("events"):
                if (event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]) < oldest:
                    await self._forget(event)

    async def _forget(self, event: Mapping[str, Any]) -> None:
        try:
            await self._api.delete("events", event["metadata"]["namespace"], event["metadata"]["name"])
        except ApiError as error:
            if error.code != 404:
                raise


def _event(said: _Said, namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": said.object,
        "type": said.kind,
        "reason": said.reason,
        "message": said.message,
        "source": {"component": said.component},
        "reportingComponent": said.component,
        "firstTimestamp": said.moment,
        "lastTimestamp": said.moment,
        "count": 1,
    }
