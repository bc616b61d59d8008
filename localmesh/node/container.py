"""One container of a pod: starts it, probes it, restarts it, stops it, and keeps its `ContainerState`.

It knows its pod's volumes and addresses through `PodView`, and reports every change by `changed()`. Order
between containers is `pod`'s business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from localmesh.apiserver.errors import ApiError
from localmesh.images import SYSTEM_PATH, Image, command_line
from localmesh.node import probes
from localmesh.node.context import NodeContext
from localmesh.node.environment import ConfigError, Sources, container_env, expand, references, service_links
from localmesh.node.identity import account_files, identity_of
from localmesh.node.logs import LogWriter, tail_text
from localmesh.node.network import Attachment
from localmesh.node.outlet import Outlet, Subscription
from localmesh.node.process import (
    CLUSTER_MARK,
    CONTAINER_MARK,
    Exit,
    Mount,
    Order,
    Process,
    kill_marked,
    run,
    start,
)
from localmesh.node.rewrite import loopback_command, loopback_env
from localmesh.node.statuses import ContainerState, now_text
from localmesh.node.volumes import SA_MOUNT, VolumeSet
from localmesh.tasks import TaskGroup

_log = logging.getLogger(__name__)

BACK_OFF_FIRST_S: Final = 1.0
BACK_OFF_MAX_S: Final = 60.0
HEALTHY_S: Final = 60.0
"""A run of this length resets the back-off."""
RUNS_KEPT: Final = 2
"""Log files kept per container: this run and the one before."""


class PodView(Protocol):
    """What a container needs of its pod."""

    context: NodeContext
    volumes: VolumeSet
    attachment: Attachment

    @property
    def pod(self) -> dict[str, Any]: ...

    def changed(self) -> None: ...


@dataclass(slots=True)
class _Run:
    """One run of the process."""

    process: Process
    log: LogWriter
    order: Order
    outlet: Outlet
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ContainerRunner:
    def __init__(self, view: PodView, spec: Mapping[str, Any], state: ContainerState, *, init: bool) -> None:
        self.spec = spec
        self.state = state
        self.started = asyncio.Event()
        """Set once the startup probe (if any) has succeeded for the current run."""
        self._view = view
        self._init = init
        self._run: _Run | None = None
        self._stopping = False
        self._failures = 0

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def field_path(self) -> str:
        return f"spec.{'initContainers' if self._init else 'containers'}{{{self.name}}}"

    @property
    def _mark(self) -> dict[str, str]:
        context, uid = self._view.context, self._view.pod["metadata"]["uid"]
        return {CLUSTER_MARK: context.cluster, CONTAINER_MARK: f"{uid}/{self.name}"}

    @property
    def dir(self) -> Path:
        return self._view.context.pod_dir(self._view.pod["metadata"]["uid"]) / "containers" / self.name

    def log_path(self, run_number: int) -> Path:
        return log_path(self._view.context.pod_dir(self._view.pod["metadata"]["uid"]), self.name, run_number)

    def log_ended(self, run_number: int) -> asyncio.Event:
        """Set when the given run will write no more."""
        if self._run is not None and run_number == self.state.restarts:
            return self._run.ended
        over = asyncio.Event()
        over.set()
        return over

    # --- life --------------------------------------------------------------------------------------

    async def keep(self, again: Callable[[int], bool]) -> int:
        """Run, and run again as long as `again(exit code)` says so; returns the last exit code."""
        while True:
            begun = asyncio.get_running_loop().time()
            code = await self._once()
            if not again(code):
                return code
            lasted = asyncio.get_running_loop().time() - begun
            await self._back_off(lasted)

    async def _once(self) -> int:
        order = await self._prepared()
        try:
            await self._begin(order)
        except OSError as error:
            self._warn("Failed", f"Error: cannot start a process: {error}")
            self.state.state = {
                "terminated": {"exitCode": 128, "reason": "StartError", "message": str(error)}
            }
            return 128
        tasks = TaskGroup(f"probes {self.name}")
        try:
            tasks.start("probes", self._probe(tasks))
            assert self._run is not None
            ended = await self._run.process.wait()
        finally:
            await tasks.stop()
        await self._over(ended)
        return ended.code

    async def _prepared(self) -> Order:
        """Everything the process needs; waits (visibly) until it can be had."""
        while True:
            try:
                image = await self._image()
                return await self._order(image)
            except ConfigError as error:
                self._wait("CreateContainerConfigError", str(error))
                self._warn("Failed", f"Error: {error}")
                await asyncio.sleep(self._view.context.retry_seconds)

    async def _image(self) -> Image:
        context, name = self._view.context, self.spec["image"]
        image = context.images.find(name)
        if image is None:
            explanation = context.images.explain_missing(name)
            self._warn("Failed", f"Failed to pull image {name!r}: {explanation}")
            self._warn("Failed", "Error: ErrImagePull")
            self._wait("ErrImagePull", explanation)
            while image is None:
                await context.images_changed.wait()
                image = context.images.find(name)
        self._say("Pulled", f"Container image {name!r} stands for {image.name!r} of localmesh's image table")
        self.state.image_id = f"localmesh://{image.name}"
        return image

    async def _order(self, image: Image) -> Order:
        view, context = self._view, self._view.context
        pod = view.pod
        identity = identity_of(pod, self.spec, context.root)
        if identity.limit:
            context.noted.add(identity.limit)
        mounts = view.volumes.mounts(self.spec)
        env = container_env(self.spec, pod, await self._sources(), await self._base_env(image))
        argv = tuple(expand(word, env) for word in command_line(image, self.spec))
        if not argv:
            raise ConfigError(f"container {self.name!r} has no command and its image has none either")
        base = self.dir / "root"
        base.mkdir(parents=True, exist_ok=True)
        cwd = self.spec.get("workingDir") or image.workdir
        hostname = (pod["spec"].get("hostname") or pod["metadata"]["name"])[:63]
        if context.network.isolated:
            mounts += (Mount(str(self._termination_log()), self._termination_path(), False),)
            return Order(
                argv,
                env,
                cwd,
                isolate=True,
                netns=view.attachment.netns,
                base=str(base),
                hide=context.hide,
                files={**view.attachment.files, **account_files(identity)},
                mounts=mounts,
                hostname=hostname,
                uid=identity.uid,
                gid=identity.gid,
                groups=identity.groups,
                tty=bool(self.spec.get("tty")),
            )
        services = await context.api.list("services")
        return Order(
            loopback_command(argv, mounts),
            loopback_env(env, mounts, services, context.domain) | self._loopback_extras(mounts),
            self._loopback_cwd(cwd, mounts, base),
            uid=identity.uid,
            gid=identity.gid,
            groups=identity.groups,
            tty=bool(self.spec.get("tty")),
        )

    def _termination_path(self) -> str:
        return str(self.spec.get("terminationMessagePath") or "/dev/termination-log")

    def _termination_log(self) -> Path:
        path = self.dir / "termination-log"
        path.write_bytes(b"")
        path.chmod(0o666)
        return path

    def _loopback_extras(self, mounts: tuple[Mount, ...]) -> dict[str, str]:
        extras = {"TMPDIR": str(self.dir / "root")}
        account = next((mount.source for mount in mounts if mount.target.rstrip("/") == SA_MOUNT), None)
        if account is not None:
            extras["KUBECONFIG"] = str(self._write_kubeconfig(account))
        return extras

    def _write_kubeconfig(self, account: str) -> Path:
        """In-cluster client libraries look at a fixed path that does not exist here; a kubeconfig works."""
        context = self._view.context
        path = self.dir / "kubeconfig"
        namespace = self._view.pod["metadata"]["namespace"]
        path.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: pod\n"
            f"clusters:\n- name: local\n  cluster:\n    server: https://{context.api_host}:{context.api_port}\n"
            f"    certificate-authority: {account}/ca.crt\n"
            f"users:\n- name: pod\n  user:\n    tokenFile: {account}/token\n"
            f"contexts:\n- name: pod\n  context: {{cluster: local, user: pod, namespace: {namespace}}}\n"
        )
        path.chmod(0o600)
        return path

    def _loopback_cwd(self, wanted: str, mounts: tuple[Mount, ...], base: Path) -> str:
        if wanted == "/":
            return str(base)
        return loopback_command((wanted,), mounts)[0]

    async def _sources(self) -> Sources:
        config_maps, secrets = references(self.spec)
        lookup = self._view.volumes.lookup
        found_maps = {name: await lookup("configmaps", name) for name in config_maps}
        found_secrets = {name: await lookup("secrets", name) for name in secrets}
        return Sources(
            {name: value for name, value in found_maps.items() if value is not None},
            {name: value for name, value in found_secrets.items() if value is not None},
        )

    async def _base_env(self, image: Image) -> dict[str, str]:
        context, pod = self._view.context, self._view.pod
        env = {
            "PATH": SYSTEM_PATH,
            "HOME": "/root" if context.network.isolated else str(self.dir / "root"),
            "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
            "LANG": "C.UTF-8",
            "KUBERNETES_SERVICE_HOST": context.api_host,
            "KUBERNETES_SERVICE_PORT": str(context.api_port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(context.api_port),
        }
        if pod["spec"].get("enableServiceLinks") is not False:
            services = await context.api.list("services", pod["metadata"]["namespace"])
            links = service_links([s for s in services if s["metadata"]["name"] != "kubernetes"])
            env |= links
        return env | dict(image.env)

    async def _begin(self, order: Order) -> None:
        number = self.state.restarts
        for old in range(max(0, number - RUNS_KEPT - 3), number - RUNS_KEPT + 1):
            for path in (self.log_path(old), self.log_path(old).with_name(self.log_path(old).name + ".1")):
                path.unlink(missing_ok=True)
        log = LogWriter(self.log_path(number))
        self._say("Created", f"Created container: {self.name}")
        try:
            outlet = Outlet(log.feed)
            process = await start(order, self._mark, outlet.feed, stdin=bool(self.spec.get("stdin")))
        except BaseException:  # cancelled, too: the pod is deleted while its container starts
            log.close()
            raise
        outlet.connect(process.hold_output)
        self._run = _Run(process, log, order, outlet)
        uid = self._view.pod["metadata"]["uid"]
        self.state.container_id = f"process://{uid}-{self.name}-{number}"
        self.state.state = {"running": {"startedAt": now_text()}}
        self._say("Started", f"Started container {self.name}")
        await self._post_start()
        if not self.spec.get("startupProbe"):
            self._has_started()
        self._view.changed()

    async def _over(self, ended: Exit) -> None:
        run_, self._run = self._run, None
        assert run_ is not None
        run_.log.close()
        run_.outlet.close()
        run_.ended.set()
        await asyncio.to_thread(kill_marked, self._mark)  # what left the process group
        terminated: dict[str, Any] = {
            "exitCode": ended.code,
            "reason": "Completed" if ended.code == 0 else "Error",
            "startedAt": self.state.state.get("running", {}).get("startedAt") or now_text(),
            "finishedAt": now_text(),
            "containerID": self.state.container_id,
        }
        if ended.signal:
            terminated["signal"] = ended.signal
        message = self._termination_message(ended)
        if message:
            terminated["message"] = message
        self.state.state = {"terminated": terminated}
        self.state.started = False
        self.state.ready = self._init and not self.state.always and ended.code == 0
        self.started.clear()
        self._view.changed()

    def _termination_message(self, ended: Exit) -> str:
        path = self.dir / "termination-log"
        text = path.read_bytes()[:4096].decode(errors="replace") if path.exists() else ""
        fallback = self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and ended.code != 0
        if not text and (fallback or ended.code in (126, 127)):
            text = tail_text(self.log_path(self.state.restarts))
        return text

    async def _back_off(self, lasted: float) -> None:
        """Wait before the next run: not at all the first time, then longer and longer."""
        self._failures = 0 if lasted >= HEALTHY_S else self._failures
        self.state.last = self.state.state
        if self._failures:
            pause = min(BACK_OFF_FIRST_S * 2 ** (self._failures - 1), BACK_OFF_MAX_S)
            pod = self._view.pod["metadata"]
            where = f"container={self.name} pod={pod['name']}_{pod['namespace']}"
            message = f"back-off {pause:g}s restarting failed {where}"
            self._warn("BackOff", f"Back-off restarting failed container {self.name} in pod {pod['name']}")
            self._wait("CrashLoopBackOff", message)
            await asyncio.sleep(pause)
        self._failures += 1
        self.state.restarts += 1
        self._view.changed()

    # --- probes and hooks ----------------------------------------------------------------------------

    def _has_started(self) -> None:
        self.state.started = True
        self.started.set()
        if not self.spec.get("readinessProbe"):
            self.state.ready = not self._init or self.state.always
        self._view.changed()

    async def _probe(self, tasks: TaskGroup) -> None:
        startup = probes.read_probe("startup", self.spec)
        if startup is not None:
            await probes.watch(startup, self._look(startup), self._on_startup)
            if not self.state.started:
                return
        for kind, report in (("readiness", self._on_readiness), ("liveness", self._on_liveness)):
            probe = probes.read_probe(kind, self.spec)
            if probe is not None:
                tasks.start(kind, probes.watch(probe, self._look(probe), report))

    def _look(self, probe: probes.Probe) -> Callable[[], Any]:
        address = self._view.attachment.address
        return lambda: probes.check(probe, self.spec, address, self.execute)

    async def _on_startup(self, result: probes.Result, good: bool | None) -> bool:
        if good:
            self._has_started()
            return False
        if not result.ok:
            self._warn("Unhealthy", f"Startup probe failed: {result.message}")
        if good is False:
            await self._restart("startup")
            return False
        return True

    async def _on_readiness(self, result: probes.Result, good: bool | None) -> bool:
        if not result.ok:
            self._warn("Unhealthy", f"Readiness probe failed: {result.message}")
        if good is not None and self.state.ready is not good and self._run is not None:
            self.state.ready = good
            self._view.changed()
        return True

    async def _on_liveness(self, result: probes.Result, good: bool | None) -> bool:
        if not result.ok:
            self._warn("Unhealthy", f"Liveness probe failed: {result.message}")
        if good is False:
            await self._restart("liveness")
            return False
        return True

    async def _restart(self, probe: str) -> None:
        if self._run is None:
            return
        self._say("Killing", f"Container {self.name} failed {probe} probe, will be restarted")
        spec = self.spec.get(f"{probe}Probe") or {}
        grace = spec.get("terminationGracePeriodSeconds")
        if grace is None:
            grace = self._view.pod["spec"].get("terminationGracePeriodSeconds", 30)
        await self._run.process.stop(float(grace))

    async def execute(self, argv: list[str], timeout_s: float) -> tuple[int, bytes]:
        """Run a command inside the running container. Raises OSError when it is not running, TimeoutError."""
        await self.entered()
        order = self.exec_order(argv)
        return await run(order, self._mark, timeout_s)

    async def entered(self) -> None:
        """Wait until the container's namespaces are its own, so that who joins it does not join the node."""
        if self._run is not None:
            await self._run.process.entered()

    def exec_order(self, argv: Sequence[str], *, tty: bool = False) -> Order:
        """How to start `argv` inside the running container; raises OSError when it does not run."""
        if self._run is None:
            raise ProcessLookupError(f"container {self.name!r} is not running")
        running = self._run.order
        if not running.isolate:
            argv = loopback_command(argv, self._view.volumes.mounts(self.spec))
        return Order(
            tuple(argv), running.env | ({"TERM": "xterm"} if tty else {}), running.cwd,
            uid=running.uid, gid=running.gid, groups=running.groups,
            join=self._run.process.pid if running.isolate else 0, tty=tty,
        )  # fmt: skip

    @property
    def mark(self) -> dict[str, str]:
        """Environment that marks what runs in this container, so that it ends with it."""
        return self._mark

    @property
    def process(self) -> Process | None:
        """The process of the current run."""
        return self._run.process if self._run is not None else None

    def subscribe(self) -> Subscription:
        """The output of the current run from now on. Raises OSError when the container does not run."""
        if self._run is None:
            raise ProcessLookupError(f"container {self.name!r} is not running")
        return self._run.outlet.subscribe()

    async def _post_start(self) -> None:
        handler = (self.spec.get("lifecycle") or {}).get("postStart")
        if handler:
            result = await self._hook(handler, 30.0)
            if not result.ok and self._run is not None:
                self._warn("FailedPostStartHook", f"PostStartHook failed: {result.message}")
                self._run.process.kill()

    async def _hook(self, handler: Mapping[str, Any], limit_s: float) -> probes.Result:
        if "sleep" in handler:
            await asyncio.sleep(min(float(handler["sleep"].get("seconds") or 0), limit_s))
            return probes.Result(True)
        probe = probes.Probe("hook", handler, 0, 1, limit_s, 1, 1)
        return await probes.check(probe, self.spec, self._view.attachment.address, self.execute)

    # --- stopping ------------------------------------------------------------------------------------

    async def stop(self, grace_s: float, *, hooks: bool = True) -> None:
        """preStop hook, SIGTERM, and SIGKILL when the grace period is over. Updates the state."""
        run_ = self._run
        if run_ is None:
            return
        deadline = asyncio.get_running_loop().time() + grace_s
        if not self._stopping:
            self._stopping = True
            self._say("Killing", f"Stopping container {self.name}")
            handler = (self.spec.get("lifecycle") or {}).get("preStop")
            if handler and grace_s > 0 and hooks:
                result = await self._hook(handler, grace_s)
                if not result.ok:
                    self._warn("FailedPreStopHook", f"PreStopHook failed: {result.message}")
        ended = await run_.process.stop(deadline - asyncio.get_running_loop().time())
        if self._run is run_:  # nobody else waited for this run
            await self._over(ended)

    def kill(self) -> None:
        if self._run is not None:
            self._run.process.kill()

    # --- reporting -----------------------------------------------------------------------------------

    def _wait(self, reason: str, message: str) -> None:
        self.state.state = {"waiting": {"reason": reason, "message": message}}
        self._view.changed()

    def _say(self, reason: str, message: str) -> None:
        self._view.context.events.normal(self._view.pod, reason, message, self.field_path)

    def _warn(self, reason: str, message: str) -> None:
        self._view.context.events.warning(self._view.pod, reason, message, self.field_path)


def log_path(pod_dir: Path, container: str, run_number: int) -> Path:
    return pod_dir / "containers" / container / f"{run_number}.log"


async def read_object(
    context: NodeContext, resource: str, namespace: str, name: str
) -> dict[str, Any] | None:
    """An object, or None when it is not there."""
    try:
        return await context.api.get(resource, namespace, name)
    except ApiError as error:
        if error.code == 404:
            return None
        raise
