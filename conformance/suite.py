"""A whole run: which cases, which mesh, which cluster; the value that reports are made of."""

from __future__ import annotations

import asyncio
import platform
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from conformance import profiles
from conformance.collect import Entry, collect, select
from conformance.drivers.world import Plan
from conformance.kube import Kube, KubeError
from conformance.profiles import Profile, ProfileError
from conformance.report import Outcome, Result, Run
from conformance.runner import Progress, run_cases

DEFAULT_IMAGE = "smi-mesh/echo"
DEFAULT_PARALLEL = 4


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked for."""

    kubeconfig: Path
    mesh: str = "auto"
    groups: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    parallel: int = DEFAULT_PARALLEL
    image: str = DEFAULT_IMAGE
    fresh: bool = False
    patience: float = 1.0
    """Factor of the time that a case waits for what must become true."""


Listen = Callable[[Progress], None]


async def run_suite(options: Options, listen: Listen = lambda _: None) -> Run:
    """Run what is asked for. Ctrl-C (cancellation) ends cases, cleans up, and returns an interrupted run.

    Raises CollectError, ProfileError, KubeconfigError, and KubeError when the cluster is not there.
    """
    entries = collect()
    chosen = select(entries, options.groups, options.features, options.cases)
    began, clock = datetime.now(UTC), time.monotonic()
    async with Kube.connect(options.kubeconfig) as kube:
        loopback = await _on_loopback(kube)
        environment = await _environment(kube, options) | {"network": "loopback" if loopback else "pods"}
        profile = await find_profile(kube, options.mesh)
        if loopback:
            profile = profile.on_loopback()
        runnable = [entry for entry in chosen if profile.refuses(entry.case) is None]
        plan = Plan(secrets.token_hex(3), options.image, profile, _bind(loopback), options.patience)
        progress = Progress(len(runnable), listen)
        interrupted = await _run(kube, plan, runnable, options, progress)
    results = [*progress.results, *_skipped(chosen, profile)]
    if interrupted:
        progress.troubles.append("interrupted: not every case ran")
    order = {entry.id: index for index, entry in enumerate(entries)}
    return Run(
        results=tuple(sorted(results, key=lambda result: order[f"{result.case.group}/{result.case.name}"])),
        expected=len(entries),
        mesh=profile.name,
        claimed=profile.claimed,
        environment=environment,
        reproduce=reproduce(options),
        began=began.isoformat(timespec="seconds"),
        seconds=time.monotonic() - clock,
        interrupted=interrupted,
        troubles=tuple(progress.troubles),
    )


async def _run(kube: Kube, plan: Plan, entries: list[Entry], options: Options, progress: Progress) -> bool:
    """Whether it was interrupted."""
    work = run_cases(kube, plan, entries, options.parallel, progress, fresh=options.fresh)
    try:
        await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return True
    return False


def _skipped(entries: tuple[Entry, ...], profile: Profile) -> list[Result]:
    reasons = ((entry, profile.refuses(entry.case)) for entry in entries)
    return [
        Result(entry.case, entry.source, Outcome.SKIPPED, message=reason)
        for entry, reason in reasons
        if reason
    ]


async def find_profile(kube: Kube, choice: str) -> Profile:
    """The profile by name or file; `auto` asks the cluster which mesh is there. Raises ProfileError."""
    if choice != "auto":
        return profiles.load(choice)
    for profile in profiles.candidates():
        for path in profile.detect:
            if await kube.find(path) is not None:
                return profile
    raise ProfileError("--mesh auto: no known mesh is installed in this cluster; name a profile file")


async def _environment(kube: Kube, options: Options) -> dict[str, object]:
    version: dict[str, object] = {}
    nodes = 0
    version = await kube.request("GET", "/version")
    with suppress(KubeError):  # a user of one's own namespaces may not list nodes
        nodes = len(await kube.objects("v1", "Node"))
    return {
        "kubernetes": str(version.get("gitVersion", "")),
        "nodes": nodes,
        "image": options.image,
        "parallel": options.parallel,
        "runner": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


async def _on_loopback(kube: Kube) -> bool:
    """Whether nodes have addresses of 127.0.0.0/8, which means that all pods share one network."""
    with suppress(KubeError):  # a user of one's own namespaces may not list nodes
        for node in await kube.objects("v1", "Node"):
            for address in (node.get("status") or {}).get("addresses", []):
                if str(address.get("address", "")).startswith("127."):
                    return True
    return False


def _bind(loopback: bool) -> str:
    """What the application binds: in a network that all pods share, its own address only."""
    return "$(POD_IP)" if loopback else "0.0.0.0"  # noqa: S104 - pods are reached from outside their namespace


def reproduce(options: Options) -> str:
    """The command that does the same again."""
    words = ["smi-mesh conformance run", f"--mesh {options.mesh}", f"--parallel {options.parallel}"]
    for flag, names in (("group", options.groups), ("feature", options.features), ("case", options.cases)):
        words += [f"--{flag} {','.join(names)}"] if names else []
    words += [f"--image {options.image}"] if options.image != DEFAULT_IMAGE else []
    words += [f"--patience {options.patience:g}"] if options.patience != 1 else []
    return " ".join(words + (["--fresh"] if options.fresh else []))
