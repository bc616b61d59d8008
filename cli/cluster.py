"""The embedded cluster as the commands see it: up with the mesh in it, found again, down.

Everything about processes and namespaces is in `localmesh`; here it meets the mesh's manifests.
"""

from __future__ import annotations

import asyncio
import collections
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import click
import yaml

import localmesh.cluster
from cli.errors import Failed
from cli.install import Say, install
from cli.kube import Kube
from cli.run import run
from controller import monitoring
from controller.manifests import InstallSettings
from controller.settings import Interception
from localmesh import prometheus
from localmesh.cluster import ClusterError, Info
from localmesh.daemon import Mode
from localmesh.node.netns import can_intercept_udp
from localmesh.prometheus import Wanted
from smi.names import SCRAPE_ANNOTATION, TRACE_PROTOCOLS

FOLLOW_SECONDS: Final = 0.2
"""How often a followed log is looked at."""


def default_state_dir(name: str) -> Path:
    """Where the state of a cluster called `name` lives unless told otherwise (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "smi-mesh" / name


def state_dir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--state-dir DIRECTORY`: one directory holds everything about one cluster."""
    option = click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: default_state_dir("local"),
        envvar="SMI_MESH_STATE_DIR",
        help="Where the cluster lives.  [default: ~/.local/state/smi-mesh/local]",
    )
    return option(command)


@dataclass(frozen=True, slots=True)
class UpOptions:
    """How a cluster is started."""

    state_dir: Path
    mode: Mode
    mesh: bool = True
    leaf_seconds: float | None = None
    """Life of workload certificates; None = the controller's default."""
    images: Path | None = None
    """YAML that extends the image table."""
    scrape_seconds: float | None = None
    """Run a Prometheus that scrapes so often; None: run none."""
    tracing: str = ""
    """URL of a collector of spans; empty: none."""
    tracing_protocol: str = TRACE_PROTOCOLS[0]
    trace_sampling: str = "100%"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs."""

    state_dir: Path
    kubeconfig: Path
    mode: str
    """`netns` or `loopback`."""
    limits: tuple[str, ...]
    log: Path
    """The embedded cluster's own log."""
    prometheus: str
    """URL of its Prometheus; empty without one."""

    @classmethod
    def of(cls, info: Info) -> Self:
        """The running cluster that `info` tells of."""
        return cls(info.state_dir, info.kubeconfig, info.mode, info.limits, info.log, info.prometheus)


def bring_up(options: UpOptions, say: Say) -> Cluster:
    """Start the cluster, or find it running, and install the mesh; raises Failed."""
    try:
        info = localmesh.cluster.up(
            options.state_dir,
            options.mode,
            images=options.images,
            prometheus=_prometheus(options),
            progress=lambda phase: say(f"cluster: {phase}"),
        )
    except ClusterError as error:
        raise Failed(str(error)) from None
    cluster = Cluster.of(info)
    if options.mesh:
        run(_install(cluster, options, say))
    return cluster


def _prometheus(options: UpOptions) -> Wanted | None:
    """A Prometheus with the mesh's rules, which are written into the state directory for it."""
    if options.scrape_seconds is None:
        return None
    directory = options.state_dir.resolve() / prometheus.DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    rules = directory / "rules.yaml"
    rules.write_text(yaml.safe_dump(monitoring.rules(), sort_keys=False), encoding="utf-8")
    return Wanted(options.scrape_seconds, (rules,), (SCRAPE_ANNOTATION,))


async def _install(cluster: Cluster, options: UpOptions, say: Say) -> None:
    loopback = cluster.mode == "loopback"
    interception = Interception.EXPLICIT if loopback else Interception.IPTABLES
    settings = InstallSettings(interception=interception.value)
    if not (loopback or await asyncio.to_thread(can_intercept_udp)):
        settings = replace(settings, udp="off")
    if options.leaf_seconds is not None:
        settings = replace(settings, leaf_seconds=f"{options.leaf_seconds:g}")
    settings = replace(
        settings, tracing_protocol=options.tracing_protocol, trace_sampling=options.trace_sampling
    )
    async with Kube.connect(cluster.kubeconfig) as kube:
        # Pods with a network namespace of their own reach this machine where they reach its API server.
        here = "localhost" if loopback else await _address_of_api_server(kube)
        settings = replace(settings, tracing=at_this_machine(options.tracing, here))
        await install(kube, settings, say, by_address=loopback)


async def _address_of_api_server(kube: Kube) -> str:
    endpoints = await kube.objects("v1", "Endpoints", "default")
    (api_server,) = (one for one in endpoints if one["metadata"]["name"] == "kubernetes")
    return str(api_server["subsets"][0]["addresses"][0]["ip"])


def at_this_machine(url: str, address: str) -> str:
    """A URL of this machine with `address` for its host; other URLs as they are."""
    parts = urlsplit(url)
    if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return url
    port = "" if parts.port is None else f":{parts.port}"
    return parts._replace(netloc=f"{address}{port}").geturl()


def find_cluster(state_dir: Path) -> Cluster:
    """The cluster that runs in `state_dir`; raises Failed when there is none."""
    info = localmesh.cluster.status(state_dir.resolve())
    if info is None:
        raise Failed(f"no cluster runs in {state_dir}: start one with `smi-mesh local up`")
    return Cluster.of(info)


def take_down(state_dir: Path, say: Say) -> bool:
    """Stop the cluster and remove everything it made; whether there was anything. Raises Failed.

    Ctrl-C is ignored meanwhile: half a clean-up is what nobody wants.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        removed = localmesh.cluster.down(state_dir, progress=say)
    except ClusterError as error:
        raise Failed(str(error)) from None
    finally:
        signal.signal(signal.SIGINT, before)
    left = localmesh.cluster.leftovers(state_dir)
    if left:
        raise Failed(f"something of the cluster could not be removed: {', '.join(left)}")
    return removed.was_running or bool(removed.processes or removed.namespaces) or removed.files


async def read_log(path: Path, *, follow: bool, tail: int) -> AsyncIterator[bytes]:
    """The last `tail` lines of a log file, then with `follow` whatever is added."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from None
    with file:
        lines = collections.deque(file, maxlen=tail)
        yield b"".join(lines)
        while follow:
            await asyncio.sleep(FOLLOW_SECONDS)
            yield file.read()
