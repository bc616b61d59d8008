"""Starts and stops all built-in controllers."""

from __future__ import annotations

import asyncio

from localmesh.apiserver.api import Api
from localmesh.controllers.autoscaler import AutoscalerController
from localmesh.controllers.budget import BudgetController
from localmesh.controllers.cronjob import CronJobController
from localmesh.controllers.daemonset import DaemonSetController
from localmesh.controllers.deployment import DeploymentController
from localmesh.controllers.endpoints import EndpointsController
from localmesh.controllers.garbage import GarbageCollector
from localmesh.controllers.job import JobController, TrackedPodController
from localmesh.controllers.namespaces import InhabitantsController, NamespaceController
from localmesh.controllers.replicaset import ReplicaSetController
from localmesh.controllers.statefulset import StatefulSetController
from localmesh.events import EventRecorder
from localmesh.tasks import TaskGroup, keep_running


class Controllers:
    """The running controllers of one cluster."""

    def __init__(self, api: Api, ca_bundle: str) -> None:
        self._recorder = EventRecorder(api, "controllers")
        said_by = self._recorder.named
        self._garbage = GarbageCollector(api)
        self._plain = (
            DeploymentController(api, said_by("deployment-controller")),
            ReplicaSetController(api, said_by("replicaset-controller")),
            DaemonSetController(api, said_by("daemonset-controller")),
            StatefulSetController(api, said_by("statefulset-controller")),
            JobController(api, said_by("job-controller")),
            TrackedPodController(api),
            CronJobController(api, said_by("cronjob-controller")),
            AutoscalerController(api, said_by("horizontal-pod-autoscaler")),
            BudgetController(api),
            EndpointsController(api),
            InhabitantsController(api, ca_bundle),
            NamespaceController(api),
        )
        self._tasks = TaskGroup("controller events")

    def start(self) -> None:
        self._tasks.start("events", keep_running("controller events", self._recorder.run))
        self._garbage.start()
        for controller in self._plain:
            controller.start()

    async def stop(self) -> None:
        await asyncio.gather(self._garbage.stop(), *(controller.loop.stop() for controller in self._plain))
        await self._tasks.stop()
