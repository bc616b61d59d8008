"""The cluster as kubectl sees it: its own credentials, context and namespace, whatever they are.

A `kubectl proxy` on a Unix socket in a private directory does the authentication for as long as the command
runs, so nothing is known here of tokens, certificates or credential plug-ins.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from cli.errors import Failed

START_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 15.0
MAX_ANSWER: Final = 64 * 1024 * 1024
MAX_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Where:
    """The flags of kubectl that say which cluster."""

    kubeconfig: str | None = None
    context: str | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        pairs = (("--kubeconfig", self.kubeconfig), ("--context", self.context))
        return tuple(f"{flag}={value}" for flag, value in pairs if value)


@dataclass(slots=True)
class Client:
    """Reads the API; gathers the warnings that came with the answers."""

    session: aiohttp.ClientSession
    warnings: dict[str, None] = field(default_factory=dict)

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Parsed JSON. Raises Failed with what the API server says."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with self.session.get(f"http://localhost{path}", params=params, timeout=timeout) as answer:
                text = await answer.text()
                self._note(answer.headers.getall("Warning", []))
                if answer.status == 200:
                    return await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Failed(f"GET {path}: {error or type(error).__name__}") from error
        raise Failed(explain(path, answer.status, text))

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a long answer, line by line. Raises Failed like `get`."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_SECONDS)
        url = f"http://localhost{path}"
        async with self.session.get(url, params=params, timeout=timeout) as answer:
            if answer.status != 200:
                raise Failed(explain(path, answer.status, await answer.text()))
            yield answer.content

    def _note(self, headers: Sequence[str]) -> None:
        for header in headers:
            self.warnings[header.partition('"')[2].rpartition('"')[0] or header] = None


def explain(path: str, status: int, text: str) -> str:
    """What went wrong and what to do, from a Status or plain text."""
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = text.strip()[:MAX_SHOWN]
    hints = {
        404: "is there such an object, and is a mesh with TrafficMetrics installed? "
        "see: kubectl get apiservices v1alpha1.metrics.smi-spec.io",
        403: "ask for a role with get and list on metrics.smi-spec.io, such as view",
        503: "the mesh's controller does not answer; see: kubectl get apiservices",
    }
    hint = hints.get(status)
    if status == 403 and path.endswith("/tap"):
        hint = "ask for ClusterRole smi-mesh-traffic-tapper: who may view may not tap"
    return f"GET {path}: {status} {message}" + (f"\n{hint}" if hint else "")


@asynccontextmanager
async def connected(where: Where) -> AsyncIterator[Client]:
    """A client for as long as the block runs. Raises Failed if kubectl is missing or cannot start."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise Failed("kubectl is not on PATH; this is a plugin of it and uses its credentials")
    with tempfile.TemporaryDirectory(prefix="kubectl-traffic-") as directory:  # mode 0700: ours alone
        socket = Path(directory) / "proxy"
        process = await asyncio.create_subprocess_exec(
            kubectl,
            "proxy",
            f"--unix-socket={socket}",
            "--reject-methods=^(POST|PUT|PATCH|DELETE)$",
            *where.flags,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            await _started(process)
            connector = aiohttp.UnixConnector(path=str(socket), limit=8)
            async with aiohttp.ClientSession(connector=connector) as session:
                yield Client(session)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()


async def _started(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
            if line:  # it speaks once it listens
                return
            said = (await process.stderr.read()).decode(errors="replace").strip()
    except TimeoutError:
        raise Failed(f"kubectl proxy did not start within {START_SECONDS:g} s") from None
    raise Failed(f"kubectl proxy did not start: {said[:MAX_SHOWN]}")


async def current_namespace(where: Where) -> str:
    """The namespace of kubectl's current context, `default` where it names none."""
    kubectl = shutil.which("kubectl") or "kubectl"
    process = await asyncio.create_subprocess_exec(
        kubectl,
        "config",
        "view",
        "--minify",
        "-o",
        "jsonpath={..namespace}",
        *where.flags,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    return told.decode().strip() or "default"
