"""Clients inside containers: real processes, terminals and sockets; the client is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from localmesh.node.outlet import HIGH, Outlet
from localmesh.node.process import Process, find_marked
from localmesh.node.sessions import EXEC_MARK, Sessions
from localmesh.streams.contract import LogOptions, Output, Place, Wanted
from localmesh.streams.outcome import Outcome
from tests.localmesh.cluster_kit import container, pod, wait_until
from tests.localmesh.node.conftest import Node

P = Place("default", "p", "c")
FOREVER = ["sleep", "1000"]


class Client:
    """A console that a test types on. Writes wait for `ready`."""

    def __init__(self, *typed: bytes, size: tuple[int, int] | None = None) -> None:
        self.typed: asyncio.Queue[bytes] = asyncio.Queue()
        for data in typed:
            self.typed.put_nowait(data)
        self.seen: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self.sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        if size:
            self.sizes.put_nowait(size)
        self.waiting = asyncio.Event()
        """Set when there was something to write."""
        self.ready = asyncio.Event()
        self.ready.set()

    async def read(self) -> bytes:
        return await self.typed.get()

    async def write(self, output: Output, data: bytes) -> None:
        self.waiting.set()
        await self.ready.wait()
        self.seen[output] += data

    async def size(self) -> tuple[int, int]:
        return await self.sizes.get()


@pytest.fixture
def sessions(node: Node) -> Sessions:
    return Sessions(node.agent.container, node.agent.attachment)


async def ready(node: Node, **spec: Any) -> None:
    await node.run(pod("p", terminationGracePeriodSeconds=0, containers=[container(**spec)]))
    await node.wait_ready("p")


async def shell(
    sessions: Sessions, script: str, client: Client | None = None, wanted: Wanted | None = None
) -> Outcome:
    argv: Sequence[str] = ["sh", "-c", script]
    chosen = wanted or Wanted(stdin=True, stdout=True, stderr=True)
    async with asyncio.timeout(20):
        return await sessions.execute_in(P, argv, chosen, client or Client(b""))


async def test_a_command_has_streams_of_its_own_and_an_exit_code(node: Node, sessions: Sessions) -> None:
    await ready(node, command=FOREVER, env=[{"name": "WHO", "value": "me"}])
    client = Client(b"typed\n", b"")
    assert await shell(sessions, "cat; echo $WHO; echo bad >&2; exit 4", client) == Outcome(4)
    assert client.seen == {"stdout": b"typed\nme\n", "stderr": b"bad\n"}
    assert (await shell(sessions, "kill -TERM $$")).code == 143
    missing = await sessions.execute_in(P, ["no-such-command"], Wanted(stderr=True), client)
    assert missing.code == 127
    assert b"no-such-command" in client.seen["stderr"]
    assert (
        "container not found"
        in (await sessions.execute_in(Place("default", "p", "x"), ["true"], Wanted(), client)).error
    )


async def test_who_comes_early_waits_until_the_container_is_its_own(node: Node) -> None:
    await node.run(pod("p", terminationGracePeriodSeconds=0, containers=[container(command=FOREVER)]))
    await wait_until(lambda: _process(node) is not None, "the launcher runs")
    process = _process(node)
    assert process is not None
    await process.entered()
    assert _command(process.pid) == FOREVER


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def _process(node: Node) -> Process | None:
    found = node.agent.container(P)
    return found.process if found is not None else None


async def test_a_terminal_has_a_size_and_is_the_controlling_one(node: Node, sessions: Sessions) -> None:
    await ready(node, command=FOREVER)
    client = Client(size=(33, 111))
    tty = Wanted(stdin=True, stdout=True, tty=True)
    script = (
        "trap 'stty size; exit 5' WINCH; stty -echo; echo up; while :; do read line && echo \"<$line>\"; done"
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(shell(sessions, script, client, tty))
        await wait_until(lambda: b"up" in client.seen["stdout"], "it runs")
        client.typed.put_nowait(b"hello\n")
        await wait_until(lambda: b"<hello>" in client.seen["stdout"], "its line")
        client.sizes.put_nowait((44, 99))
        client.typed.put_nowait(b"\n")
    assert running.result() == Outcome(5)
    assert b"44 99" in client.seen["stdout"]


async def test_a_client_that_leaves_takes_everything_it_started(node: Node, sessions: Sessions) -> None:
    await ready(node, command=FOREVER)
    client = Client()
    script = "setsid sleep 1000 & sleep 1000 & echo up; wait"
    running = asyncio.ensure_future(shell(sessions, script, client))  # noqa: TID251 - cancelled below
    await wait_until(lambda: client.seen["stdout"] == b"up\n", "it runs")
    started = [pid for pid in find_marked({}) if _is_exec(pid)]
    assert len(started) == 3
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await wait_until(lambda: not any(_is_exec(pid) for pid in started), "all of it is gone")
    assert node.is_ready("p")


def _is_exec(pid: int) -> bool:
    try:
        return EXEC_MARK.encode() + b"=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


async def test_what_a_command_leaves_behind_ends_with_the_container(node: Node, sessions: Sessions) -> None:
    await ready(node, command=FOREVER)
    client = Client(b"")
    script = "sleep 1000 >/dev/null 2>&1 & echo $!"
    assert await shell(sessions, script, client) == Outcome()
    left = int(client.seen["stdout"])
    assert _is_exec(left)
    await node.api.delete("pods", "default", "p", grace_seconds=0)
    await wait_until(lambda: not _is_exec(left), "it ends with its container")


async def test_a_slow_client_gets_everything(node: Node, sessions: Sessions) -> None:
    await ready(node, command=FOREVER)
    client = Client()
    client.ready.clear()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(shell(sessions, "seq 1 50000; echo end", client))
        await client.waiting.wait()
        client.ready.set()
    assert running.result() == Outcome()
    assert client.seen["stdout"] == b"".join(b"%d\n" % n for n in range(1, 50001)) + b"end\n"


async def test_input_that_nobody_reads_does_not_hold_up_the_end(node: Node, sessions: Sessions) -> None:
    await ready(node, command=FOREVER)
    client = Client(*[bytes(60_000)] * 10)
    assert await shell(sessions, "exec <&-; sleep 0.1; exit 6", client) == Outcome(6)
    assert client.typed.empty()


async def test_attach_joins_what_runs_and_its_input_ends_with_the_first_client(
    node: Node, sessions: Sessions
) -> None:
    await node.run(
        pod("p", restartPolicy="Never", containers=[container(command=["cat"], stdin=True, stdinOnce=True)])
    )
    await node.wait_phase("p", "Running")
    first, second = Client(), Client()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(sessions.attach_to(P, Wanted(stdout=True), second))
        typing = group.create_task(sessions.attach_to(P, Wanted(stdin=True, stdout=True), first))
        first.typed.put_nowait(b"hello\n")
        await wait_until(lambda: first.seen["stdout"] == second.seen["stdout"] == b"hello\n", "both see it")
        first.typed.put_nowait(b"")
    assert (watching.result(), typing.result()) == (Outcome(), Outcome())
    await node.wait_phase("p", "Succeeded")
    assert await node.log("p") == "hello\n"
    assert "container not found" in (await sessions.attach_to(P, Wanted(stdout=True), first)).error


async def test_input_outlives_a_client_unless_it_is_for_one_only(node: Node, sessions: Sessions) -> None:
    await ready(node, command=["cat"], stdin=True)
    for text in (b"one\n", b"two\n"):
        client = Client(text, b"")
        async with asyncio.TaskGroup() as group:
            attached = group.create_task(sessions.attach_to(P, Wanted(stdin=True, stdout=True), client))
            await wait_until(lambda seen=client.seen, text=text: seen["stdout"] == text, "its line")
            await wait_until(client.typed.empty, "its end of input")
            attached.cancel()
    assert node.is_ready("p")


async def test_a_slow_client_keeps_nothing_from_the_log(node: Node, sessions: Sessions) -> None:
    script = "read go; seq 1 90000; echo end"
    await node.run(
        pod("p", restartPolicy="Never", containers=[container(command=["sh", "-c", script], stdin=True)])
    )
    await node.wait_phase("p", "Running")
    slow = Client(b"go\n")
    slow.ready.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(sessions.attach_to(P, Wanted(stdin=True, stdout=True), slow))
        writing = node.agent.container(P)
        assert writing is not None
        outlet = writing.subscribe()
        size = 0
        while size < HIGH:  # then the slow client holds the output
            piece = await outlet.read()
            assert piece is not None
            size += len(piece[1])
        outlet.close()
        assert node.status("p")["phase"] == "Running"
        slow.ready.set()
    await node.wait_phase("p", "Succeeded")
    whole = b"".join(b"%d\n" % n for n in range(1, 90001)) + b"end\n"
    assert slow.seen["stdout"] == whole
    assert (await node.log("p")).encode() == whole


async def test_a_container_may_have_a_terminal(node: Node, sessions: Sessions) -> None:
    await ready(node, command=["sh", "-c", "tty; while read l; do stty size; done"], stdin=True, tty=True)
    client = Client(size=(12, 34))
    attached = asyncio.ensure_future(  # noqa: TID251 - cancelled below
        sessions.attach_to(P, Wanted(stdin=True, stdout=True, tty=True), client)
    )
    await wait_until(lambda: client.sizes.empty(), "the size is set")
    client.typed.put_nowait(b"x\n")
    await wait_until(lambda: b"12 34" in client.seen["stdout"], "its size")
    attached.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attached
    again = Client(b"y\n")
    async with asyncio.TaskGroup() as group:
        second = group.create_task(sessions.attach_to(P, Wanted(stdin=True, stdout=True, tty=True), again))
        await wait_until(lambda: b"12 34" in again.seen["stdout"], "it still listens")
        second.cancel()
    assert "/dev/pts/" in await node.log("p")


async def test_connections_to_a_port_of_the_pod(node: Node, sessions: Sessions) -> None:
    script = (
        "import os,socket\n"
        "listener=socket.create_server((os.environ['IP'], 8080)); print('up', flush=True)\n"
        "listener.accept()[0].sendall(b'hi')"
    )
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    await ready(node, image="python", command=["python", "-c", script], env=env)
    chunks = await node.agent.logs(P, LogOptions(follow=True))
    async for chunk in chunks:
        if chunk == b"up\n":
            break
    with pytest.raises(OSError, match="Connect call failed"):
        await sessions.dial("default", "p", 9)
    with pytest.raises(LookupError, match="not running on this node"):
        await sessions.dial("default", "nobody", 8080)
    reader, writer = await sessions.dial("default", "p", 8080)
    assert await reader.read() == b"hi"
    writer.close()


async def test_output_waits_for_the_slowest_and_is_let_go_when_it_stalls() -> None:
    logged: list[bytes] = []
    held: list[bool] = []
    outlet = Outlet(lambda _stream, data: logged.append(data), stall_s=0.05)
    outlet.connect(held.append)
    quick, stuck = outlet.subscribe(), outlet.subscribe()
    outlet.feed("stdout", bytes(HIGH))
    assert held == [True]
    assert await quick.read() == ("stdout", bytes(HIGH))
    assert held == [True]
    await wait_until(lambda: stuck.stalled, "the stuck client is let go")
    assert held == [True, False]
    assert not quick.stalled
    assert await stuck.read() is None
    outlet.feed("stderr", b"more")
    outlet.close()
    assert await quick.read() == ("stderr", b"more")
    assert await quick.read() is None
    assert logged == [bytes(HIGH), b"more"]
