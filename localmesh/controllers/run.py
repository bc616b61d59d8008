"""Starts and stops all built-in controllers."""

from __future__ import annotations

import asyncio

from localmesh.apiserver.api import Api
from localmesh.controllers.deployment import DeploymentController
from localmesh.controllers.endpoints import EndpointsController
from localmesh.controllers.garbage import GarbageCollector
from localmesh.controllers.namespaces import InhabitantsController, NamespaceController
from localmesh.controllers.replicaset import ReplicaSetController
from localmesh.events import EventRecorder
from localmesh.tasks import TaskGroup, keep_running


class Controllers:
    """The running controllers of one cluster."""

    def __init__(self, api: Api, ca_bundle: str) -> None:
        self._recorders = [
            EventRecorder(api, name) for name in ("deployment-controller", "replicaset-controller")
        ]
        self._garbage = GarbageCollector(api)
        self._plain = (
            DeploymentController(api, self._recorders[0]),
            ReplicaSetController(api, self._recorders[1]),
            EndpointsController(api),
            InhabitantsController(api, ca_bundle),
            NamespaceController(api),
        )
        self._tasks = TaskGroup("controller events")

    def start(self) -> None:
        for recorder in self._recorders:
            self._tasks.start("events", keep_running("controller events", recorder.run))
        self._garbage.start()
        for controller in self._plain:
            controller.start()

    async def stop(self) -> None:
        await asyncio.gather(self._garbage.stop(), *(controller.loop.stop() for controller in self._plain))
        await self._tasks.stop()
