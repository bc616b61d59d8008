"""Composition root: settings → CA → hub → watches, listeners and status, and an orderly end.

The only module that knows every other. Order matters: listeners open only when there is a
certificate, and config flows only when every kind has been listed once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from ssl import CERT_OPTIONAL, SSLContext
from typing import Final

import kopf
from aiohttp import web

from controller import listening
from controller.admin import admin_app
from controller.admission.inject import Sidecar
from controller.admission.registration import keep_registered
from controller.admission.server import webhook_app
from controller.ca.authority import Authority
from controller.ca.issue import MaterialError
from controller.ca.policy import Names, RefusedError, controller_names
from controller.ca.serving import ServingCertificate
from controller.compile.compiler import compile as compile_world
from controller.compile.conditions import Condition, ObjectStatus
from controller.compile.world import Pod
from controller.discovery.proxies import Proxies
from controller.discovery.server import DiscoveryServer
from controller.discovery.sign import sign_app
from controller.hub import Hub, Published
from controller.kinds import WATCHED
from controller.kube import Kube, KubeError, login
from controller.logs import set_up_logging
from controller.metrics import Metrics
from controller.metricsapi.server import TrafficApi
from controller.metricsapi.sources import PrometheusSource, ProxySource, Source
from controller.metricsapi.trust import Doorkeeper, FrontDoor
from controller.settings import VERSION, Interception, Settings, SettingsError, read_settings
from controller.status.conditions import programmed
from controller.status.writer import StatusWriter
from controller.tasks import Tasks
from controller.watch.index import Cluster
from controller.watch.operator import Watch
from smi.api import convert
from smi.findings import ObjectRef
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE, Workload

_log = logging.getLogger(__name__)

_LISTENERS: Final = 5
_CA_PAUSE: Final = 0.5
_CA_REFRESH_SECONDS: Final = 30.0
_RECONNECT_SECONDS: Final = 6.0
"""Proxies are back this soon after a restart of ours; until then their absence proves nothing."""


class Controller:
    """One controller: `start`, then wait for the end of one of its tasks, then `stop`."""

    def __init__(
        self,
        settings: Settings,
        log_in: Callable[[], kopf.ConnectionInfo],
        *,
        on_failure: Callable[[str, BaseException], None],
        on_spawned: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.kube = Kube(log_in)
        self.hub = Hub(
            compile_world,
            quiet=settings.quiet_seconds,
            longest=settings.holdoff_seconds,
            observe=self._observe_compilation,
        )
        self.proxies = Proxies()
        self.authority = Authority(
            self.kube, settings.trust_domain, timedelta(seconds=settings.leaf_seconds), _now
        )
        self.watch = Watch(
            log_in,
            self.kube,
            new_cluster=partial(Cluster, settings.trust_domain, settings.cluster_domain),
            on_change=self.hub.poke,
            on_spawned=on_spawned,
            on_restart=self.metrics.watch_restarts.inc,
        )
        self.discovery = DiscoveryServer(self.hub, self.proxies, self.metrics, settings.trust_domain)
        self.status = StatusWriter(
            self.hub,
            self.kube,
            self.metrics,
            find=lambda ref: self.watch.cluster.find(ref),
            progress=self._progress,
            clock=_now,
        )
        self.proxies.on_change = self.status.poke
        self.traffic: Source = (
            PrometheusSource(settings.prometheus, time.monotonic)
            if settings.prometheus
            else ProxySource(time.monotonic)
        )
        self.ports: dict[str, int] = {}
        """Name of each listener → the port it got."""
        self._serving: ServingCertificate | None = None
        self._runners: list[web.AppRunner] = []
        self._tasks = Tasks(on_failure)
        self._reported_from = float("inf")
        self.hub.listen(self._observe_publication)

    def _workload_of(self, namespace: str, pod: str) -> Workload | None:
        """What a pod is an instance of, as last seen; None before it was seen."""
        found = self.watch.cluster.find(ObjectRef("", "Pod", namespace, pod))
        value = found.reading.value if found else None
        return value.workload if isinstance(value, Pod) else None

    async def start(self) -> None:
        """Open the CA, listen everywhere, begin watching. Retries what depends on the API server."""
        settings, start = self.settings, self._tasks.start
        self._reported_from = asyncio.get_running_loop().time() + _RECONNECT_SECONDS
        admin = admin_app(self.hub, self.proxies, self.metrics, self._blocked_by)
        await self._listen("admin", admin, settings.admin_port, None)
        start("watches", self.watch.run())
        start("compilation", self.hub.run(lambda: self.watch.cluster.world()))
        await self._open_authority()
        serving = self._serving = ServingCertificate(self.authority, self._names(), _now, random.random)
        start("serving certificate", serving.run())
        start("root certificate", self._keep_authority(serving))
        webhooks = webhook_app(self._sidecar, convert, self.metrics)
        await self._listen("webhooks", webhooks, settings.webhook_port, serving.context())
        signing = sign_app(self.authority, self.kube, self.metrics, settings.trust_domain, self._workload_of)
        await self._listen("identity", signing, settings.identity_port, serving.context())
        await self._serve_traffic(serving)
        self.ports["discovery"] = await self.discovery.start(
            settings.bind, settings.discovery_port, serving.context(clients=True)
        )
        crd_names = tuple(f"{kind.plural}.{kind.group}" for kind in WATCHED if kind.smi)
        start("registration", keep_registered(self.kube, lambda: self.authority.bundle, crd_names))
        start("status", self.status.run())
        asyncio.get_running_loop().call_at(self._reported_from, self.status.poke)
        _log.info("smi-mesh controller %s is up on %s %s", VERSION, settings.bind, self.ports)

    async def _serve_traffic(self, serving: ServingCertificate) -> None:
        """Listen for kube-apiserver's aggregator; who it is, it proves with a client certificate."""
        context = serving.context()
        context.verify_mode = CERT_OPTIONAL
        front_door = FrontDoor(self.kube, context, _now)
        api = TrafficApi(
            world=lambda: self.hub.world,
            objects=self.kube,
            source=self.traffic,
            front_door=front_door,
            doorkeeper=Doorkeeper(self.kube, time.monotonic),
            tapper=self.discovery,
            metrics=self.metrics,
            clock=time.time,
            monotonic=time.monotonic,
        )
        await self._listen("traffic", api.app(), self.settings.traffic_port, context)
        self._tasks.start("front door", front_door.run())

    async def stop(self) -> None:
        """End everything: streams first, so that proxies look for another controller at once."""
        await self.discovery.stop()
        await self._tasks.cancel()
        for runner in reversed(self._runners):
            await listening.stop(runner)
        await self.traffic.close()
        await self.kube.close()

    async def _listen(self, name: str, app: web.Application, port: int, context: SSLContext | None) -> None:
        runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=self.settings.drain_seconds
        )
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, self.settings.bind, port, ssl_context=context)
        await site.start()
        self.ports[name] = runner.addresses[0][1]

    async def _open_authority(self) -> None:
        told = ""
        while True:
            try:
                await self.authority.open()
                self._expiry()
            except (KubeError, MaterialError) as error:
                if str(error) != told:
                    _log.error("the CA is not available, trying again: %s", error)
                told = str(error)
                await asyncio.sleep(_CA_PAUSE)
            else:
                return

    async def _keep_authority(self, serving: ServingCertificate) -> None:
        """Follow the Secret: the user may replace it, a generated root is rotated."""
        while True:
            await asyncio.sleep(_CA_REFRESH_SECONDS)
            try:
                if await self.authority.refresh():
                    serving.renew()
                    _log.warning("the trust bundle or the signing root has changed")
                self._expiry()
            except (KubeError, MaterialError, RefusedError) as error:
                _log.error("Secret smi-mesh-ca is not used as it stands now: %s", error)

    def _expiry(self) -> None:
        self.metrics.root_expiry.set(self.authority.root_not_after.timestamp())

    def _blocked_by(self) -> str:
        """Why this controller is not ready: it must be able to answer everything it is asked."""
        if len(self.ports) < _LISTENERS:
            return "waiting for the CA: Secret smi-mesh-ca cannot be read or created yet"
        if self.hub.latest is None:
            missing = ", ".join(self.watch.waiting_for)
            return f"waiting until the API server serves {missing}" if missing else "listing the cluster"
        return ""

    def _names(self) -> Names:
        settings = self.settings
        hosts = (settings.pod_ip, settings.controller)
        return controller_names(
            settings.trust_domain, SYSTEM_NAMESPACE, CONTROLLER_NAME, settings.cluster_domain, hosts
        )

    def _sidecar(self) -> Sidecar:
        settings = self.settings
        return Sidecar(
            image=settings.proxy_image,
            pull_policy=settings.proxy_pull_policy,
            controller=settings.controller,
            trust_domain=settings.trust_domain,
            cluster_domain=settings.cluster_domain,
            trust_bundle=self.authority.bundle,
            explicit=settings.interception is Interception.EXPLICIT,
            udp=settings.udp,
            log_level=settings.proxy_log_level.value,
            metrics=settings.metrics,
            workers=str(settings.proxy_workers) if settings.proxy_workers > 1 else "",
            access_log=settings.proxy_access_log,
            udp_idle=str(settings.proxy_udp_idle_seconds),
            resources=settings.proxy_resources,
            tracing=settings.tracing,
        )

    def _progress(self, latest: Published) -> Callable[[ObjectStatus], Condition | None]:
        progress = self.proxies.progress(latest.snapshot)
        early = asyncio.get_running_loop().time() < self._reported_from

        def condition(status: ObjectStatus) -> Condition | None:
            found = progress(status, latest.since[status.ref])
            if early and found.concerned == 0:
                return None
            return programmed(found.done, found.concerned, found.refused)

        return condition

    def _observe_publication(self) -> None:
        self.metrics.revision.set(self.hub.revision)
        latest = self.hub.latest
        found = Counter((one.severity, one.reason) for one in latest.snapshot.findings) if latest else {}
        self.metrics.findings.clear()
        for (severity, reason), count in found.items():
            self.metrics.findings.labels(severity, reason).set(count)

    def _observe_compilation(self, seconds: float, outcome: str) -> None:
        self.metrics.compile_seconds.labels(outcome).observe(seconds)


def _now() -> datetime:
    return datetime.now(UTC)


async def run(settings: Settings) -> int:
    """Run until SIGTERM, SIGINT or a failure that needs a fresh process; returns the exit code."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, 0)

    def failed(name: str, _: BaseException) -> None:
        _log.critical("%s cannot go on; ending so that a fresh process takes over", name)
        end(1)

    take_signals()
    controller = Controller(settings, partial(login, os.environ), on_failure=failed, on_spawned=take_signals)
    starting = Tasks(failed)
    starting.start("start", controller.start())
    try:
        return await ended
    finally:
        _log.info("ending")
        await starting.cancel()
        await controller.stop()


def main() -> None:
    """Entry point: settings from the environment, logs to standard error."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.exit(f"smi-mesh controller: {error}")
    set_up_logging(settings.log_level.name)
    import uvloop  # here, because tests compose the controller on asyncio's own loop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(run(settings)))
