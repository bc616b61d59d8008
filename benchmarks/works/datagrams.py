"""UDP flows through one hop, intercepted as in a pod: in a network namespace of its own, which takes root."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from benchmarks import ours, peers
from benchmarks.processes import NotStarted, output_of, python, started
from benchmarks.rows import Row
from benchmarks.works.bench import Bench, Contender, rounds, rows_of
from smi.names import PROXY_ID

_WORK: Final = "UDP flows, one hop"
_METRIC: Final = "answered datagrams per CPU-second"
_INSIDE: Final = "198.18.77.1"
_OUTSIDE: Final = "198.18.77.2"
_FLOWS: Final = 32
_SECONDS: Final = 20.0
_PORTS: Final = ours.Ports(15001, 15006, 15008, 15020)
_AS_PROXY: Final = ("setpriv", f"--regid={PROXY_ID}", "--clear-groups")
"""What proxies send is not intercepted again; it is known by its group."""


async def udp(bench: Bench) -> list[Row]:
    """Datagrams of 100 bytes and back, each flow on a socket of its own; Envoy forwards without a split."""
    missing = [name for name in ("ip", "setpriv", "iptables-restore") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        note = f"needs {', '.join(missing) or 'root'}"
        bench.say(f"  {note}")
        return [Row(_WORK, _METRIC, None, "Envoy", None, None, note)]
    async with AsyncExitStack() as stack:
        inside = await stack.enter_async_context(_namespace())
        ours.configure_datagrams(bench.controller, (_OUTSIDE, bench.datagrams))
        env = {
            **ours.environment(bench.controller, bench.folder, "udp", _INSIDE, _PORTS),
            "SMI_MESH_CONTROLLER": _OUTSIDE,
            "SMI_MESH_INTERCEPTION": "iptables",
            "SMI_MESH_UDP": "on",
        }
        rules = {name: value for name, value in env.items() if name.startswith("SMI_MESH_")}
        settings = [f"{name}={value}" for name, value in rules.items() if name != "SMI_MESH_TRUST_BUNDLE"]
        await output_of([*inside, "env", *settings, *python("-m", "dataplane.intercept")], _SECONDS)
        command = [*inside, *_AS_PROXY, *python("-m", "dataplane")]
        running = stack.enter_context(started("sidecar-udp", command, bench.folder, env=env))
        await ours.ready(running, _INSIDE, _PORTS.admin)
        contenders = [Contender("smi-mesh", (_OUTSIDE, bench.datagrams), "", [running])]
        if bench.envoy is not None:
            config = peers.udp_proxy(5353, (_OUTSIDE, bench.datagrams))
            command = [*inside, *_AS_PROXY, *peers.envoy_command(bench.envoy, config, bench.folder, "udp")]
            running = stack.enter_context(started("envoy-udp", command, bench.folder))
            contenders.append(Contender("Envoy", ("127.0.0.1", 5353), "", [running]))

        async def work(contender: Contender, seconds: int) -> None:
            contender.done += (await _load(inside, contender, seconds))["answered"]
            contender.seconds += seconds

        for contender in contenders:
            await _answers(inside, contender)
        await rounds(bench, contenders, work)
        return rows_of(contenders, _WORK, _METRIC, None)


async def _load(inside: list[str], contender: Contender, seconds: float) -> dict[str, Any]:
    host, port = contender.address
    arguments = ["datagrams", host, str(port), "--seconds", str(seconds), "--connections", str(_FLOWS)]
    text = await output_of([*inside, *python("-m", "benchmarks.load", *arguments)], seconds + _SECONDS)
    result: dict[str, Any] = json.loads(text)
    return result


async def _answers(inside: list[str], contender: Contender) -> None:
    """Return once datagrams come back. Raises NotStarted."""
    deadline = time.monotonic() + _SECONDS
    while not (await _load(inside, contender, 0.2))["answered"]:
        if time.monotonic() > deadline:
            raise NotStarted(f"{contender.name} answers no datagram: {contender.processes[0].tail()}")


@asynccontextmanager
async def _namespace() -> AsyncIterator[list[str]]:
    """The beginning of a command that runs in a new network namespace, joined to this one by a veth."""
    tag = secrets.token_hex(3)
    name, device = f"smi-bench-{tag}", f"b{tag}"
    try:
        for command in (
            f"ip netns add {name}",
            f"ip link add {device} type veth peer name eth0 netns {name}",
            f"ip addr add {_OUTSIDE}/30 dev {device}",
            f"ip link set {device} up",
            f"ip -n {name} addr add {_INSIDE}/30 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} link set lo up",
        ):
            await output_of(command.split(), _SECONDS)
        yield ["ip", "netns", "exec", name]
    finally:
        process = await asyncio.create_subprocess_exec("ip", "netns", "delete", name)
        await process.wait()
