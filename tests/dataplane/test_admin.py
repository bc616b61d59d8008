"""The admin listener over real sockets: its four paths, who may see what, and its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import admin as admin_module
from dataplane.admin import MAX_CONNECTIONS, MAX_HEAD, Admin, Views, answer
from dataplane.exposition import Scrape
from tests.dataplane.waiting import until


@dataclass
class Shown:
    reason: str = ""
    rows: int = 1
    config: dict[str, Any] = field(default_factory=lambda: {"revision": 7})
    begun: list[tuple[str, Callable[[str], None]]] = field(default_factory=list)

    def views(self) -> Views:
        def config() -> Mapping[str, Any]:
            return self.config

        def scrape(dialects: str, accept: str) -> Scrape:
            if dialects == "klingon":
                raise ValueError("'klingon' is no dialect")
            lines: list[str] = []

            def steps() -> Iterator[None]:
                for number in range(self.rows):
                    lines.append(f'up{{number="{number}"}} 1\n')
                    yield

            kind = f"text/plain; dialects={dialects}; accept={accept}"
            return Scrape(kind, steps(), lambda: "".join(lines).encode())

        def samples(window: int | None) -> Mapping[str, Any]:
            return {"window": window}

        def begin(path: str, then: Callable[[str], None]) -> bool:
            self.begun.append((path, then))
            return not path.endswith("nothing")

        return Views(lambda: self.reason, scrape, samples, config, begin=begin)


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
async def port(shown: Shown) -> AsyncIterator[int]:
    listener = Admin(shown.views(), "10.1.2.3")
    yield await listener.start("127.0.0.1", 0)
    await listener.stop()


async def ask(port: int, request: bytes) -> tuple[int, bytes, bytes]:
    """(status, head, body) of the answer to raw bytes; (0, b"", b"") if there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        received = await reader.read()
    writer.close()
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]), head, body) if head else (0, b"", b"")


async def _expect_cut(reader: asyncio.StreamReader) -> None:
    """The connection ends without a byte, by reset or by end of stream."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""


async def get(port: int, path: str, method: str = "GET") -> tuple[int, bytes, bytes]:
    return await ask(port, f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())


async def test_ready_says_why_not(port: int, shown: Shown) -> None:
    shown.reason = "no certificate yet"
    assert (await get(port, "/ready"))[::2] == (503, b"not ready: no certificate yet\n")
    shown.reason = ""
    assert (await get(port, "/ready?verbose"))[::2] == (200, b"ready\n")


async def test_live_metrics_config(port: int) -> None:
    assert (await get(port, "/live"))[::2] == (200, b"alive\n")
    status, head, body = await get(port, "/metrics")
    assert (status, body) == (200, b'up{number="0"} 1\n')
    assert b"content-type: text/plain; dialects=; accept=\r\ncontent-length: 17" in head
    status, _, body = await get(port, "/config")
    assert (status, json.loads(body)) == (200, {"revision": 7})


async def test_a_scrape_says_what_it_wants(port: int) -> None:
    request = b"GET /metrics?dialects=osm,smi HTTP/1.1\r\nACCEPT: a/b;q=1\r\naccept: c/d\r\n\r\n"
    _, head, _ = await ask(port, request)
    assert b"dialects=osm,smi; accept=a/b;q=1,c/d\r\n" in head
    assert (await get(port, "/metrics?dialects=klingon"))[::2] == (400, b"'klingon' is no dialect\n")
    assert json.loads((await get(port, "/samples"))[2]) == {"window": None}
    assert json.loads((await get(port, "/samples?window=30"))[2]) == {"window": 30}
    assert (await get(port, "/samples?window=-1"))[0] == 400
    assert (await get(port, "/samples?" + "a=1&" * 100))[0] == 400


async def test_a_long_scrape_lets_others_go_first(
    port: int, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_module, "TURN_SECONDS", 0.0)  # every row ends a turn
    shown.rows = 2000
    ended: list[str] = []

    async def note(path: str) -> tuple[int, bytes, bytes]:
        found = await get(port, path)
        ended.append(path)
        return found

    (status, _, body), other = await asyncio.gather(note("/metrics"), note("/live"))
    assert (status, body.count(b"\n")) == (200, 2000)
    assert other[0] == 200
    assert ended == ["/live", "/metrics"]


async def test_head_has_no_body_and_other_things_are_refused(port: int) -> None:
    status, head, body = await get(port, "/live", "HEAD")
    assert (status, body) == (200, b"")
    assert b"content-length: 6" in head
    assert (await get(port, "/live", "POST"))[0] == 405
    assert (await get(port, "/"))[0] == 404
    assert (await ask(port, b"nonsense\r\n\r\n"))[0] == 400


def test_config_is_for_the_pod_itself(shown: Shown) -> None:
    listener = Admin(shown.views(), "10.1.2.3")
    assert listener.is_own_pod("127.0.0.1")
    assert listener.is_own_pod("10.1.2.3")
    assert not listener.is_own_pod("10.1.2.4")
    found = answer(shown.views(), b"GET", b"/config", own_pod=False)
    assert not isinstance(found, Scrape)
    assert found.status == 403


async def test_a_request_may_come_in_pieces_but_not_without_end(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for byte in b"GET /live HTTP/1.1\r\n\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    assert (await ask(port, b"GET /live HTTP/1.1\r\nx: " + b"y" * MAX_HEAD))[0] == 431


async def test_a_silent_caller_is_cut(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_module, "EXCHANGE_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /li")
    await _expect_cut(reader)
    writer.close()


async def test_more_connections_than_allowed_are_cut(shown: Shown) -> None:
    listener = Admin(shown.views(), "10.1.2.3")
    port = await listener.start("127.0.0.1", 0)
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
    await until(lambda: len(listener._open) == MAX_CONNECTIONS)
    reader, extra = await asyncio.open_connection("127.0.0.1", port)
    await _expect_cut(reader)
    extra.close()
    idle.pop()[1].close()
    await until(lambda: len(listener._open) < MAX_CONNECTIONS)
    assert (await get(port, "/live"))[0] == 200
    await listener.stop()
    for _, writer in idle:
        writer.close()


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_method_and_target_gets_an_answer(method: bytes, target: bytes) -> None:
    found = answer(Shown().views(), method, target, own_pod=True)
    assert isinstance(found, Scrape) or found.status in (200, 400, 404, 405, 503)


@pytest.mark.parametrize(("problem", "status"), [("", 200), ("no answer within 1 s", 503)])
async def test_checks_take_their_time(
    port: int, shown: Shown, monkeypatch: pytest.MonkeyPatch, problem: str, status: int
) -> None:
    """The kubelet has a time-out of its own; ours would end a wait that it asked for."""
    monkeypatch.setattr(admin_module, "EXCHANGE_SECONDS", 0.02)
    asked = asyncio.get_running_loop().create_task(
        ask(port, b"GET /app-health/app/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
    )
    await until(lambda: shown.begun)
    await asyncio.sleep(0.05)  # longer than any other exchange may take
    [(path, then)] = shown.begun
    assert path == "/app-health/app/liveness"
    then(problem)
    found, _, body = await asked
    assert (found, problem.encode() in body) == (status, True)


async def test_a_check_nobody_waits_for_any_more(port: int, shown: Shown) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /withdrawn HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: shown.begun)
    writer.transport.abort()
    await until(lambda: writer.transport.is_closing())
    shown.begun[0][1]("")  # to nobody
    assert (await ask(port, b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200


@pytest.mark.parametrize(("line", "status"), [(b"GET /app-health/nothing", 404), (b"POST /withdrawn", 405)])
async def test_checks_that_are_none(port: int, line: bytes, status: int) -> None:
    assert (await ask(port, line + b" HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == status
