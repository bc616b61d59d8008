"""Probes: how a container proves that it has started, is ready, is alive.

`Verdict` is the pure counting (successThreshold, failureThreshold); `check` performs one HTTP, TCP or exec
probe; `watch` repeats it. Until the first success of a startup or readiness probe it looks more often than
`periodSeconds` says, and those extra looks never count as failures: a started pod is seen as ready at once.
Source: core/v1 Probe; kubelet: any HTTP status from 200 to 399 is a success.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from localmesh.node.environment import ConfigError

EAGER_FIRST_S: Final = 0.04
EAGER_MAX_S: Final = 0.5
HEAD_LIMIT: Final = 16 * 1024

Exec = Callable[[list[str], float], Awaitable[tuple[int, bytes]]]
"""Runs a command inside the container: (argv, time-out seconds) → (exit code, output)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe with its defaults applied. Times in seconds."""

    kind: str
    """startup, readiness or liveness."""
    handler: Mapping[str, Any]
    initial_delay: float
    period: float
    timeout: float
    success: int
    failure: int
    grace: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    ok: bool
    message: str = ""


@dataclass(slots=True)
class Verdict:
    """Counts results in a row. `good` is None until a threshold was reached for the first time."""

    success: int
    failure: int
    good: bool | None = None
    _in_a_row: int = 0
    _last: bool | None = None

    def feed(self, ok: bool) -> bool:
        """Take one result; returns whether `good` changed."""
        self._in_a_row = self._in_a_row + 1 if ok is self._last else 1
        self._last = ok
        reached = self._in_a_row >= (self.success if ok else self.failure)
        if not reached or self.good is ok:
            return False
        self.good = ok
        return True


def read_probe(kind: str, container: Mapping[str, Any]) -> Probe | None:
    spec = container.get(f"{kind}Probe")
    if not spec:
        return None
    return Probe(
        kind=kind,
        handler=spec,
        initial_delay=float(spec.get("initialDelaySeconds") or 0),
        period=float(spec.get("periodSeconds") or 10),
        timeout=float(spec.get("timeoutSeconds") or 1),
        success=int(spec.get("successThreshold") or 1),
        failure=int(spec.get("failureThreshold") or 3),
        grace=spec.get("terminationGracePeriodSeconds"),
    )


def port_number(port: Any, container: Mapping[str, Any]) -> int:
    """A probe's or hook's port: a number or the name of a container port. Raises ConfigError."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    if str(port).isdigit():
        return int(port)
    raise ConfigError(f"container {container.get('name')!r} has no port named {port!r}")


async def check(probe: Probe, container: Mapping[str, Any], address: str, execute: Exec) -> Result:
    """Perform the probe once; never raises for a failing target."""
    handler = probe.handler
    try:
        async with asyncio.timeout(probe.timeout):
            if "httpGet" in handler:
                return await http_get(handler["httpGet"], container, address)
            if (
                "tcpSocket" in handler or "grpc" in handler
            ):  # grpc: reachable is all we look at (stated limit)
                spec = handler.get("tcpSocket") or handler["grpc"]
                return await _connect(spec.get("host") or address, port_number(spec.get("port"), container))
            if "exec" in handler:
                code, output = await execute(list(handler["exec"].get("command") or ()), probe.timeout)
                return Result(
                    code == 0, output[:1024].decode(errors="replace").strip() or f"exit code {code}"
                )
    except TimeoutError:
        return Result(False, f"no answer within {probe.timeout:g} s")
    except (OSError, ConfigError, asyncio.IncompleteReadError, ValueError) as error:
        return Result(False, str(error) or type(error).__name__)
    return Result(False, "the probe names no httpGet, tcpSocket, grpc or exec")


async def _connect(host: str, port: int) -> Result:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return Result(True)


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # a default one parses the system's authorities
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # as the kubelet: a probe does not verify
    return context


async def http_get(spec: Mapping[str, Any], container: Mapping[str, Any], address: str) -> Result:
    """One GET, connection closed afterwards; also used for lifecycle hooks."""
    host = spec.get("host") or address
    port = port_number(spec.get("port"), container)
    path = spec.get("path") or "/"
    headers = {
        "Host": f"{host}:{port}",
        "User-Agent": "kube-probe/1.36",
        "Accept": "*/*",
        "Connection": "close",
    }
    headers |= {item["name"].title(): item["value"] for item in spec.get("httpHeaders") or ()}
    secure = _trusting() if (spec.get("scheme") or "HTTP").upper() == "HTTPS" else None
    reader, writer = await asyncio.open_connection(host, port, ssl=secure, limit=HEAD_LIMIT)
    try:
        lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        line = (await reader.readline()).split(b" ", 2)
    finally:
        writer.close()
    if len(line) < 2 or not line[0].startswith(b"HTTP/") or not line[1][:3].isdigit():
        return Result(False, f"GET http://{host}:{port}{path}: no HTTP answer")
    code = int(line[1][:3])
    return Result(200 <= code < 400, f"GET http://{host}:{port}{path}: status {code}")


async def watch(
    probe: Probe,
    look: Callable[[], Awaitable[Result]],
    report: Callable[[Result, bool | None], Awaitable[bool]],
) -> None:
    """Look at the container again and again; ends when `report(result, good)` returns False.

    `report` hears every counted result; `good` is the new verdict when this result changed it, else None.
    """
    clock = asyncio.get_running_loop().time
    verdict = Verdict(probe.success, probe.failure)
    await asyncio.sleep(probe.initial_delay)
    pause = EAGER_FIRST_S
    eager = probe.kind != "liveness"
    due = clock() + (probe.period if eager else 0.0)
    while True:
        result = await look()
        eager = eager and not result.ok
        if result.ok or clock() >= due:
            due = clock() + probe.period
            changed = verdict.feed(result.ok)
            if not await report(result, result.ok if changed else None):
                return
        wait = max(due - clock(), 0.01)
        await asyncio.sleep(min(pause, wait) if eager else wait)
        pause = min(pause * 1.5, EAGER_MAX_S)
