"""Discovery streams over mTLS: each proxy gets the slice of the latest Snapshot it subscribed to.

One reader and one writer per stream. The writer always sends from the latest Snapshot: a proxy that
reads slowly misses intermediate revisions, and nothing is queued for it beyond one update. Decides
nothing about policy: `slicing` says what a proxy is to run.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from controller import listening
from controller.compile.slicing import diff, slice_for
from controller.discovery import protocol
from controller.discovery.departures import Departures
from controller.discovery.protocol import ProtocolError
from controller.discovery.proxies import Proxies, Proxy
from controller.hub import Hub, Published
from controller.metrics import Metrics
from controller.taps import MAX_TAPS, TapReader, TooManyTapsError
from controller.tasks import Tasks
from smi.names import ServiceIdentity, pod_dns_san
from smi.policy.codec import JSON

_log = logging.getLogger(__name__)

_HELLO_SECONDS: Final = 5.0
_HANDSHAKE_SECONDS: Final = 10.0
_WRITE_SECONDS: Final = 30.0
_DEAD_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.01
MAX_STREAMS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a verified client certificate names."""

    uri: str
    dns: frozenset[str]


def peer_of(certificate: Mapping[str, Any] | None) -> Peer:
    """Read a verified certificate (`SSLObject.getpeercert()`): one SPIFFE id and the DNS names.

    Raises ProtocolError for a certificate that is no identity (SPIFFE X.509-SVID §2).
    """
    names = (certificate or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    if len(uris) != 1 or not uris[0].startswith("spiffe://"):
        raise ProtocolError("the client certificate must have exactly one SPIFFE id")
    return Peer(uris[0], frozenset(value for kind, value in names if kind == "DNS"))


def authenticate(peer: Peer, pod: str, trust_domain: str) -> None:
    """Raise ProtocolError unless `peer` proved to be `pod` (`namespace/name`) of `trust_domain`."""
    namespace, _, name = pod.partition("/")
    try:
        identity = ServiceIdentity.parse(peer.uri)
    except ValueError:
        identity = None
    if identity is None or (identity.trust_domain, identity.namespace) != (trust_domain, namespace):
        raise ProtocolError(f"{peer.uri} is no identity of namespace {namespace} in {trust_domain}")
    if pod_dns_san(namespace, name) not in peer.dns:
        raise ProtocolError(f"the client certificate is not that of pod {pod}")


class DiscoveryServer:
    """Accepts streams on one port. `start`, then `stop`."""

    def __init__(
        self,
        hub: Hub,
        proxies: Proxies,
        metrics: Metrics,
        trust_domain: str,
        *,
        dead_seconds: float = _DEAD_SECONDS,
    ) -> None:
        self._hub = hub
        self._proxies = proxies
        self._metrics = metrics
        self._trust_domain = trust_domain
        self._dead_seconds = dead_seconds
        self._streams: dict[Proxy, _Stream] = {}
        self._departures = Departures()
        self._look: asyncio.TimerHandle | None = None
        self._taps: dict[str, tuple[frozenset[str], TapReader]] = {}
        self._accepted: set[asyncio.StreamWriter] = set()
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None
        self._stop_listening: Callable[[], None] = lambda: None

    async def start(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Listen; returns the port (useful with port 0)."""
        self._stop_listening = self._hub.listen(self._published)
        self._server = await asyncio.start_server(
            self._accept,
            host,
            port,
            ssl=context,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            limit=protocol.MAX_CLIENT_LINE,
        )
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Close the listener and every stream; proxies come back by themselves."""
        self._stop_listening()
        if self._look is not None:
            self._look.cancel()
        await listening.close([self._server])
        for writer in list(self._accepted):
            writer.transport.abort()
        await self._tasks.cancel()

    @contextmanager
    def tap(
        self, pods: Iterable[str], wanted: Mapping[str, str], seconds: float, rate: int
    ) -> Iterator[TapReader]:
        """Have the proxies of `pods` show requests, for as long as the context is open.

        Raises TooManyTapsError. A proxy that connects later is not asked.
        """
        if len(self._taps) >= MAX_TAPS:
            raise TooManyTapsError(f"there are {MAX_TAPS} taps already; try again when one has ended")
        reader, name = TapReader(), secrets.token_hex(8)
        asked = frozenset(pods)
        streams = {stream.proxy.pod: stream for stream in self._streams.values() if stream.proxy.pod in asked}
        self._taps[name] = (asked, reader)
        try:
            for pod in sorted(asked - streams.keys()):
                reader.put(pod, (), 0, "its proxy is not connected")
            for stream in streams.values():
                stream.say(protocol.tap_line(name, wanted, seconds, rate))
            yield reader
        finally:
            del self._taps[name]
            for stream in streams.values():
                stream.say(protocol.untap_line(name))

    def _tapped(self, pod: str, seen: protocol.Tapped) -> None:
        """A proxy may only answer taps that it was asked for; others have ended meanwhile."""
        asked, reader = self._taps.get(seen.tap, (frozenset(), None))
        if reader is not None and pod in asked:
            reader.put(pod, seen.requests, seen.dropped, seen.note)

    def _published(self) -> None:
        latest = self._hub.latest
        if latest is not None:
            self._proxies.forget_absent(latest.snapshot.inbound)
        for stream in self._streams.values():
            stream.wake()
        self._departures_changed()

    def _departures_changed(self) -> None:
        """Look soon whether a pod that waits for it is called no more: once for many acknowledgements."""
        if self._departures and self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._tell_withdrawn)

    def _tell_withdrawn(self) -> None:
        """Answer the proxies whose pods nobody calls any more."""
        self._look = None
        latest = self._hub.latest
        if latest is None:
            return
        gone = set(self._departures.withdrawn(latest, self._proxies))
        for stream in self._streams.values() if gone else ():
            if stream.proxy.pod in gone:
                stream.say(protocol.WITHDRAWN)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._accepted) >= MAX_STREAMS:
            writer.transport.abort()
            return
        self._accepted.add(writer)
        self._tasks.start("discovery stream", self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except ProtocolError as error:
            self._metrics.stream_errors.inc()
            _log.warning("discovery stream of %s: %s", writer.get_extra_info("peername"), error)
            await _say_goodbye(writer, str(error))
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:  # ssl.SSLError is an OSError
            _log.debug("discovery stream ended: %s", error or type(error).__name__)
        finally:
            self._accepted.discard(writer)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("peercert"))
        async with asyncio.timeout(_HELLO_SECONDS):
            hello = protocol.parse(await _read_line(reader))
        if not isinstance(hello, protocol.Hello):
            raise ProtocolError("the first message must be a hello")
        authenticate(peer, hello.pod, self._trust_domain)
        now = asyncio.get_running_loop().time()
        proxy = Proxy(hello.pod, peer.uri, hello.version, now, set(hello.subscriptions))
        stream = _Stream(proxy, writer, self._hub, self._metrics)
        former = self._proxies.connect(proxy)
        if former is not None and former in self._streams:
            self._streams[former].close()
        self._streams[proxy] = stream
        self._metrics.proxies.set(self._proxies.connected)
        _log.info("proxy of %s connected (version %s)", proxy.pod, proxy.version or "unknown")
        try:
            async with asyncio.TaskGroup() as halves:
                halves.create_task(self._receive(reader, stream))
                halves.create_task(stream.send())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            del self._streams[proxy]
            self._proxies.disconnect(proxy)
            self._departures.forget(proxy.pod)
            self._departures_changed()
            self._metrics.proxies.set(self._proxies.connected)
            _log.info("proxy of %s disconnected", proxy.pod)

    async def _receive(self, reader: asyncio.StreamReader, stream: _Stream) -> None:
        while True:
            async with asyncio.timeout(self._dead_seconds):
                line = await _read_line(reader)
            proxy = stream.proxy
            match protocol.parse(line):
                case protocol.Ping():
                    stream.pong()
                case protocol.Subscribe(keys):
                    stream.subscribe(keys)
                    self._proxies.on_change()
                case protocol.Unsubscribe(keys):
                    stream.unsubscribe(keys)
                    self._proxies.on_change()
                case protocol.Ack(revision):
                    self._proxies.acknowledge(proxy, min(revision, stream.sent_revision))
                    self._departures_changed()
                case protocol.Leaving():
                    self._departures.begin(proxy.pod)
                    self._departures_changed()
                case protocol.Nack(revision, error):
                    self._metrics.nacks.inc()
                    _log.error("proxy of %s refused revision %d: %s", proxy.pod, revision, error)
                    self._proxies.refuse(proxy, revision, error)
                    stream.start_over()
                case protocol.Tapped() as seen:
                    self._tapped(proxy.pod, seen)
                case protocol.Hello():
                    raise ProtocolError("hello is said once")


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """One line; raises IncompleteReadError at the end of the stream, ProtocolError for a long line."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise ProtocolError(f"a line is longer than {protocol.MAX_CLIENT_LINE} bytes") from None


async def _say_goodbye(writer: asyncio.StreamWriter, message: str) -> None:
    try:
        async with asyncio.timeout(1.0):
            writer.write(protocol.error_line(message))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        _log.debug("could not tell the client: %s", error or type(error).__name__)


class _Stream:
    """The sending half: what this proxy has been sent, and what it is due."""

    def __init__(self, proxy: Proxy, writer: asyncio.StreamWriter, hub: Hub, metrics: Metrics) -> None:
        self.proxy = proxy
        self.sent_revision = 0
        self._writer = writer
        self._hub = hub
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._wake.set()
        self._sent: dict[str, JSON] | None = None  # None: the next update is a full one
        self._behind = False  # refused an update: deltas are of no use to it
        self._resliced = False  # the subscriptions changed since the last slice
        self._pong_due = False
        self._due: deque[bytes] = deque(maxlen=2 * MAX_TAPS)

    def say(self, line: bytes) -> None:
        """Send one line soon, beside the config."""
        self._due.append(line)
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        """End the stream: another one of the same pod has taken over."""
        self._writer.transport.abort()

    def pong(self) -> None:
        self._pong_due = True
        self._wake.set()

    def subscribe(self, keys: tuple[str, ...]) -> None:
        """Every key is answered, also one that was subscribed before. Raises ProtocolError."""
        self.proxy.keys.update(keys)
        if len(self.proxy.keys) > protocol.MAX_KEYS:
            raise ProtocolError(f"at most {protocol.MAX_KEYS} subscriptions")
        self._forget_sent(keys)

    def unsubscribe(self, keys: tuple[str, ...]) -> None:
        self.proxy.keys.difference_update(keys)
        self._resliced = True
        self._wake.set()

    def start_over(self) -> None:
        """The proxy refused an update and keeps its former config: send everything next time."""
        self._behind = True

    def _forget_sent(self, keys: tuple[str, ...]) -> None:
        if self._sent is not None:
            for key in keys:
                self._sent.pop(f"destination/{key}", None)
        self._resliced = True
        self._wake.set()

    async def send(self) -> None:
        """Send whatever is due, for ever. Raises ProtocolError, OSError or TimeoutError to end it."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._pong_due:
                self._pong_due = False
                await self._write(protocol.PONG)
            while self._due:
                await self._write(self._due.popleft())
            latest = self._hub.latest
            if latest is not None and (latest.revision != self.sent_revision or self._resliced):
                await self._update(latest)

    async def _update(self, latest: Published) -> None:
        pod = self.proxy.pod
        inbound = latest.snapshot.inbound.get(pod)
        if inbound is None:
            # Not seen yet, or on its way out: until then what it has stays in force.
            return
        if inbound.identity != self.proxy.identity:
            raise ProtocolError(f"pod {pod} runs as {inbound.identity}, not as {self.proxy.identity}")
        self._resliced = False
        new = slice_for(latest.snapshot, pod, sorted(self.proxy.keys))
        before = None if self._behind else self._sent
        changed, removed = diff(before or {}, new)
        if latest.revision == self.sent_revision and not changed and not removed:
            return
        self._behind = False
        self._sent, self.sent_revision = new, latest.revision
        lines = protocol.update_lines(
            latest.revision, full=before is None, changed=changed, removed=removed if before else ()
        )
        for line in lines:
            await self._write(line)
        self._metrics.updates.inc()

    async def _write(self, line: bytes) -> None:
        self._metrics.update_bytes.inc(len(line))
        self._writer.write(line)
        # Waits while the proxy does not read: until then nothing more is made for it.
        async with asyncio.timeout(_WRITE_SECONDS):
            await self._writer.drain()
