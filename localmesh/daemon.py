"""The daemon of one cluster: network, API server, controllers and node in one process, until SIGTERM.

Start order is the order of the steps in `serve`; everything is taken down in reverse. `cluster` starts and
stops this process; nothing here talks to a terminal.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Literal

from localmesh import images
from localmesh.apiserver.server import ApiServer, ApiSettings, start
from localmesh.controllers.run import Controllers
from localmesh.events import EventRecorder
from localmesh.node import netns
from localmesh.node.agent import NodeAgent
from localmesh.node.context import NodeContext
from localmesh.node.identity import am_root
from localmesh.node.loopback import LoopbackNetwork
from localmesh.node.netns import NetnsNetwork
from localmesh.node.network import Network, NetworkError
from localmesh.node.process import CLUSTER_MARK, kill_marked
from localmesh.node.sessions import Sessions
from localmesh.prometheus import DIRECTORY, Prometheus, Wanted
from localmesh.state import Info, cluster_id, process_start, read_json, write_info, write_json
from localmesh.tasks import TaskGroup, keep_running

_log = logging.getLogger(__name__)

Mode = Literal["auto", "netns", "loopback"]
DOMAIN: Final = "cluster.local"
STOP_GRACE_S: Final = 3.0
LIMITS_LOOK_S: Final = 1.0
READY_S: Final = 10.0
HIDDEN: Final = ("/run", "/tmp")  # noqa: S108 (names of directories that pods get empty)


class StartError(Exception):
    """The cluster cannot start; the message is for the user and says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    state_dir: Path
    mode: Mode = "auto"
    images: Path | None = None
    """YAML that extends the image table (see images.parse_extension)."""
    prometheus: Wanted | None = None
    """Start a Prometheus beside the cluster; None: do not."""
    api_port: int = 0
    """0 keeps the port of the last start, else any free one."""


async def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. A failed start is written to daemon.json."""
    state_dir = settings.state_dir
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    info = Info(
        state_dir=state_dir,
        cluster=cluster_id(state_dir),
        mode=settings.mode,
        phase="starting",
        pid=os.getpid(),
        pid_started=process_start(os.getpid()),
        started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    with _locked(state_dir):
        write_info(info)
        try:
            await serve(settings, info, stop)
        except (StartError, NetworkError, images.ImageTableError, OSError) as error:
            _log.error("the cluster cannot start: %s", error)
            write_info(replace(info, phase="failed", error=str(error) or type(error).__name__))
            return 1
        (state_dir / "daemon.json").unlink(missing_ok=True)
    return 0


def _locked(state_dir: Path) -> IO[str]:
    """Hold the directory's lock; a second daemon on the same directory must not even look around."""
    file = (state_dir / "daemon.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise SystemExit(f"another localmesh daemon uses {state_dir}: {error.strerror}") from error
    return file


async def serve(settings: Settings, info: Info, stop: asyncio.Event) -> None:
    """Start everything, say `ready`, wait for `stop`, take everything down."""
    async with AsyncExitStack() as stack:
        extra = _read_images(settings.images)
        if settings.prometheus is not None and Prometheus.missing():
            raise StartError(f"{Prometheus.missing()} is not installed")
        _say(info, "cleaning up")
        await asyncio.to_thread(kill_marked, {CLUSTER_MARK: info.cluster})
        compiled = await stack.enter_async_context(_compiling())
        _say(info, "network")
        network, mode, why = await _network(settings, info)
        stack.push_async_callback(network.close)
        info = replace(
            info,
            mode=mode,
            node_address=network.plan.node_address,
            pod_cidr=network.plan.pod_cidr,
            service_cidr=network.plan.service_cidr,
        )
        _say(info, "API server")
        server = await _api_server(settings, network)
        stack.push_async_callback(server.stop)
        info = replace(info, api=server.url)
        _remember(settings.state_dir, mode, network, server.port)
        _say(info, "controllers")
        controllers = Controllers(server.api, server.authority_pem.decode())
        controllers.start()
        stack.push_async_callback(controllers.stop)
        _say(info, "node")
        events = EventRecorder(server.api, "kubelet")
        agent = NodeAgent(_context(settings, info, network, server, events), extra)
        server.set_node(Sessions(agent.container, agent.attachment), agent.logs)
        tasks = TaskGroup("daemon")
        stack.push_async_callback(tasks.stop)
        tasks.start("events", keep_running("events", events.run))
        tasks.start("old events", keep_running("old events", events.sweep))
        await _wait_for_default_account(server)
        await compiled.wait()
        await agent.start()
        stack.push_async_callback(agent.stop, STOP_GRACE_S)
        if settings.prometheus is not None:
            _say(info, "Prometheus")
            prometheus = await _prometheus(settings.prometheus, settings.state_dir, info, server)
            stack.push_async_callback(prometheus.stop)
            info = replace(info, prometheus=prometheus.url)
        _say(info, "ready")
        tasks.start("limits", _publish_limits(info, agent, why))
        await stop.wait()
        _say(info, "stopping")


def _say(info: Info, phase: str) -> None:
    _log.info("%s", phase)
    write_info(replace(info, phase=phase))


def _read_images(path: Path | None) -> tuple[images.Image, ...]:
    if path is None:
        return ()
    try:
        text = path.read_text()
    except OSError as error:
        raise StartError(f"cannot read the image table {path}: {error.strerror}") from error
    return images.parse_extension(text, str(path))


@asynccontextmanager
async def _compiling() -> AsyncIterator[asyncio.Event]:
    """Compile our packages beside the rest of the start: containers do not write byte code themselves."""
    done = asyncio.Event()
    tasks = TaskGroup("compile")

    async def compile_all() -> None:
        packages = ("smi", "dataplane", "controller", "conformance", "localmesh")
        paths = [str(images.SOURCE_ROOT / name) for name in packages]
        try:
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", "compileall", "-q", *paths)
            await process.wait()  # a read-only tree is fine, pods then start a little slower
        finally:
            done.set()

    tasks.start("compileall", compile_all())
    try:
        yield done
    finally:
        await tasks.stop()


async def _network(settings: Settings, info: Info) -> tuple[Network, str, str]:
    """The driver, its mode, and why that mode was chosen (a limit to state, or "")."""
    before = read_json(settings.state_dir / "network.json")
    mode, why = settings.mode, ""
    if mode == "auto":
        missing = await asyncio.to_thread(netns.missing_tools)
        mode = "loopback" if missing else "netns"
        if missing:
            why = f"Mode loopback was chosen because mode netns needs {' and '.join(missing)}."
    if before and before.get("mode") != mode:
        raise StartError(
            f"{settings.state_dir} holds a cluster of mode {before.get('mode')}, now mode {mode} is wanted; "
            "run `down` first, or use another state directory"
        )
    preferred = str(before.get("service_cidr") or "")
    network: Network
    if mode == "netns":
        missing = await asyncio.to_thread(netns.missing_tools) if settings.mode == "netns" else []
        if missing:
            raise StartError(f"mode netns needs {' and '.join(missing)}; use mode loopback instead")
        network = await NetnsNetwork.create(info.cluster, DOMAIN, preferred)
    else:
        network = await LoopbackNetwork.create(info.cluster, preferred)
    if preferred and network.plan.service_cidr != preferred:
        taken = network.plan.service_cidr
        await network.close()
        raise StartError(
            f"the Services of this cluster live in {preferred}, which something else uses now ({taken} would "
            "be free); stop the other one, or run `down` to begin anew"
        )
    return network, mode, why


async def _api_server(settings: Settings, network: Network) -> ApiServer:
    """Start it on the port it had before, if that is free, so that kubeconfigs stay valid."""
    port = settings.api_port or int(read_json(settings.state_dir / "network.json").get("api_port") or 0)
    bind = tuple(dict.fromkeys(("127.0.0.1", network.plan.api_address)))

    def wanted(number: int) -> ApiSettings:
        return ApiSettings(settings.state_dir, bind=bind, port=number, service_cidr=network.plan.service_cidr)

    try:
        server = await start(wanted(port))
    except OSError:
        if not port or settings.api_port:
            raise
        server = await start(wanted(0))
    await server.publish_endpoint(network.plan.api_address)
    return server


def _remember(state_dir: Path, mode: str, network: Network, port: int) -> None:
    value = {"mode": mode, "service_cidr": network.plan.service_cidr, "api_port": port}
    write_json(state_dir / "network.json", value)


async def _prometheus(wanted: Wanted, state_dir: Path, info: Info, server: ApiServer) -> Prometheus:
    prometheus = Prometheus(server.api, state_dir, info.cluster)
    try:
        await prometheus.start(wanted)
    except TimeoutError:
        await prometheus.stop()
        log = state_dir / DIRECTORY / "prometheus.log"
        raise StartError(f"Prometheus did not become ready; {log} says why") from None
    return prometheus


def _context(
    settings: Settings, info: Info, network: Network, server: ApiServer, events: EventRecorder
) -> NodeContext:
    pods_dir = settings.state_dir / "pods"
    pods_dir.mkdir(mode=0o711, exist_ok=True)

    async def issue_token(
        namespace: str, account: str, audience: str, seconds: int, pod: tuple[str, str]
    ) -> str:
        return server.issue_token(namespace, account, audience or None, seconds, pod)

    isolated = network.isolated
    return NodeContext(
        api=server.api,
        network=network,
        events=events,
        issue_token=issue_token,
        cluster=info.cluster,
        pods_dir=pods_dir,
        domain=DOMAIN,
        ca_bundle=server.authority_pem.decode(),
        api_host=server.settings.service_address if isolated else network.plan.api_address,
        api_port=443 if isolated else server.port,
        root=am_root() and isolated,
        hide=_hidden() if isolated else (),
    )


def _hidden() -> tuple[str, ...]:
    """Directories pods get empty, unless the interpreter or our own source lives there."""
    needed = [Path(sys.prefix), Path(sys.base_prefix), images.SOURCE_ROOT]
    return tuple(name for name in HIDDEN if not any(path.is_relative_to(name) for path in needed))


async def _wait_for_default_account(server: ApiServer) -> None:
    """Pods need the ServiceAccount `default`; the controllers make it in a moment."""
    async with asyncio.timeout(READY_S):
        if server.api.peek("serviceaccounts", "default", "default") is None:
            async for _, account in server.api.watch("serviceaccounts", "default"):
                if account["metadata"]["name"] == "default":
                    return


async def _publish_limits(info: Info, agent: NodeAgent, why: str) -> None:
    """Keep the stated limits in daemon.json up to date; running pods may add some."""
    said: tuple[str, ...] = ()
    while True:
        limits = tuple(limit for limit in (why, *agent.limits()) if limit)
        if limits != said:
            said = limits
            write_info(replace(info, phase="ready", limits=limits))
        await asyncio.sleep(LIMITS_LOOK_S)
