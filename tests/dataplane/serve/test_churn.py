"""Whatever happens to config, certificates and endpoints: nobody unallowed answers, nothing is lost.

Hypothesis makes up sequences of changes and requests that overlap them. A small model says what the
configs in force since a request began allowed it: to be routed to, to be admitted by. An answer must
come from a pod that both allowed, a refusal or a failure must have had a reason at some moment. Answers
over HTTP/1.1 come in pieces, with changes between them, and all must arrive.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dataplane.tasks import Tasks
from dataplane.wire.http2 import Stream
from smi.policy.snapshot import Endpoint
from tests.dataplane.serve.http import Client, Message, get, read_message
from tests.dataplane.serve.http2 import OK, App, Peer, dial
from tests.dataplane.serve.mesh import API, Handler, Mesh, Pod, match, mesh, routes, split
from tests.dataplane.waiting import DEADLINE, until

PODS = ("root", "v1", "v2", "v3")
SERVICE = {"root": "api", "v1": "v1", "v2": "v2", "v3": "v2"}
"""Whose cluster a pod is in: v3 is another endpoint of v2."""


# --- what happens -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """A request on one of three connections, behind those that wait there already."""

    client: int
    form: str = "length"
    """HTTP/1.1: how the answer says where it ends. What ends with its connection has one of its own."""


@dataclass(frozen=True)
class Ready:
    """The endpoints that are ready from now on."""

    pods: frozenset[str]


@dataclass(frozen=True)
class Weights:
    """A TrafficSplit with these weights of v1 and v2; None: no split. `full`: as a config sent whole."""

    weights: tuple[int, int] | None
    full: bool = False


@dataclass(frozen=True)
class Admit:
    """A pod lets web in, or not."""

    pod: str
    admits: bool


@dataclass(frozen=True)
class Rotate:
    """A new certificate."""

    pod: str


@dataclass(frozen=True)
class Turns:
    """So many turns of the event loop."""

    count: int


@dataclass(frozen=True)
class Pieces:
    """So many pieces of answers are sent; the others wait."""

    count: int


@dataclass(frozen=True)
class Settle:
    """Until nothing is under way."""


Step = Ask | Ready | Weights | Admit | Rotate | Turns | Pieces | Settle
FORMS = ("length", "chunked", "close")
STEPS = st.lists(
    st.one_of(
        st.builds(Ask, st.integers(0, 2), st.sampled_from(FORMS)),
        st.builds(Ask, st.integers(0, 2), st.sampled_from(FORMS)),
        st.builds(Ready, st.frozensets(st.sampled_from(PODS))),
        st.builds(Weights, st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3)), st.booleans()),
        st.builds(Admit, st.sampled_from(PODS), st.booleans()),
        st.builds(Rotate, st.sampled_from(("web", *PODS))),
        st.builds(Turns, st.integers(1, 30)),
        st.builds(Pieces, st.integers(1, 10)),
        st.builds(Settle),
    ),
    max_size=40,
)


# --- what may come of it --------------------------------------------------------------------------------


@dataclass
class World:
    """The config in force."""

    ready: frozenset[str] = frozenset(PODS)
    weights: tuple[int, int] | None = None
    admitting: set[str] = field(default_factory=lambda: set(PODS))

    def routed(self) -> set[str]:
        """Pods a request may go to now (S7, S8)."""
        if self.weights is None:
            return self.ready & {"root"}
        chosen = {name for name, weight in zip(("v1", "v2"), self.weights, strict=True) if weight}
        return {pod for pod in self.ready if SERVICE[pod] in chosen}


@dataclass
class Request:
    """What was allowed at some moment since it began."""

    routed: set[str] = field(default_factory=set)
    admitted: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    nobody: bool = False

    def see(self, world: World) -> None:
        routed = world.routed()
        self.routed |= routed
        self.admitted |= world.admitting
        self.denied |= set(PODS) - world.admitting
        self.nobody |= not routed

    def judge(self, status: int, text: str) -> None:
        """`text`: who answered, or our own reason."""
        if status == 200:
            assert text in self.routed & self.admitted, (text, self)
        elif status == 403:
            assert self.routed & self.denied, self
        else:
            assert (status, text) in {(503, "no-endpoint"), (503, "no-backend")}, (status, text)
            assert self.nobody, self


# --- the real thing ---------------------------------------------------------------------------------------

Asks = Callable[[str], Coroutine[None, None, tuple[int, str]]]
"""Sends a request at once; the coroutine gives the status, and who answered or our own reason."""


class Driver:
    """A mesh that takes steps, and the model beside it."""

    def __init__(self, net: Mesh, http2: bool) -> None:
        self.net = net
        self.http2 = http2
        self.world = World()
        self.under_way: set[int] = set()
        self.requests: list[Request] = []
        self.tasks = Tasks()
        self.asked: list[asyncio.Task[None]] = []
        self.answered: Counter[int] = Counter()
        self.tap = Tap()
        self.pods: dict[str, Pod] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.apps: list[App] = []
        self.clients: list[Asks] = []
        self.peers: list[Peer] = []

    async def start(self) -> None:
        web = self.pods["web"] = await self.net.pod("web")
        web.admit()
        for name in PODS:
            pod = self.pods[name] = await self.net.pod("api")
            pod.admit(self.net.anything())
            if self.http2:
                app = App(_answers(name))
                self.apps.append(app)
                port = await app.start(pod.ip)
            else:
                port = await self.net.serve(pod.ip, self.tap.server(name))
            self.endpoints[name] = pod.endpoint(port)
        self.tell()
        for _ in range(3):
            if self.http2:
                peer = await dial(web)
                self.peers.append(peer)
                self.clients.append(_Http2(peer))
            else:
                self.clients.append(_Http1(self.net, web, await self.net.client(web.outbound)))

    def tell(self, *, full: bool = False) -> None:
        """Send web its config as discovery would; `full`: with nothing left of the one before."""
        world, web = self.world, self.pods["web"]
        clusters: dict[str, list[Endpoint]] = {f"shop/{name}:8080": [] for name in ("v1", "v2")}
        root = []
        for name in sorted(world.ready):
            if name == "root":
                root.append(self.endpoints[name])
            else:
                clusters[f"shop/{SERVICE[name]}:8080"].append(self.endpoints[name])
        splits = []
        if world.weights is not None:
            splits.append(split("s", dict(zip(("v1", "v2"), world.weights, strict=True))))
        web.reach(API, root, splits=splits, clusters=clusters, full=full)

    def take(self, step: Step) -> None:
        world = self.world
        if isinstance(step, Ask):
            self.ask(self.clients[step.client], step.form)
            return
        if isinstance(step, Pieces):
            self.tap.let(step.count)
            return
        if isinstance(step, Ready):
            world.ready = step.pods
            self.tell()
        elif isinstance(step, Weights):
            world.weights = step.weights
            self.tell(full=step.full)
        elif isinstance(step, Admit):
            (world.admitting.add if step.admits else world.admitting.discard)(step.pod)
            grant = self.net.anything() if step.admits else routes(match("/never", "GET"))
            self.pods[step.pod].admit(grant)
        elif isinstance(step, Rotate):
            self.pods[step.pod].contexts.rotate()
        for number in self.under_way:
            self.requests[number].see(world)

    def ask(self, client: Asks, form: str) -> None:
        number = len(self.requests)
        request = Request()
        request.see(self.world)
        self.requests.append(request)
        self.under_way.add(number)

        answer_of = client(form)

        async def run() -> None:
            async with asyncio.timeout(DEADLINE):
                answer = await answer_of
            self.under_way.discard(number)
            request.judge(*answer)
            self.answered[answer[0]] += 1

        self.asked.append(self.tasks.start(f"request {number}", run()))

    async def settle(self) -> None:
        self.tap.flow()
        await asyncio.gather(*self.asked)
        self.tap.stop()
        self.asked.clear()

    async def finish(self) -> None:
        await self.settle()
        web = self.pods["web"]
        await until(lambda: sum(web.count("outbound").values()) == len(self.requests))
        counted: Counter[int] = Counter()
        for (status, reason), number in web.count("outbound").items():
            counted[status] += number
            assert status == 503 or not reason, (status, reason)
        assert counted == self.answered
        await until(lambda: not any(load.active for load in web.loads()))

    async def stop(self) -> None:
        await self.tasks.cancel()
        for peer in self.peers:
            peer.transport.abort()
        for app in self.apps:
            app.stop()


def _answers(name: str) -> Callable[[Peer], None]:
    def react(peer: Peer) -> None:
        for number, stream in list(peer.events.streams.items()):
            if stream.remote_done:
                del peer.events.streams[number]
                peer.connection.send_head(stream, OK, end=False)
                peer.connection.send_data(stream, name.encode(), end=True)

    return react


class Tap:
    """What keeps pieces of answers back, in whichever order they come."""

    def __init__(self) -> None:
        self._flows = False
        self._waiting: deque[asyncio.Event] = deque()

    def let(self, count: int) -> None:
        while self._waiting and count:
            self._waiting.popleft().set()
            count -= 1

    def flow(self) -> None:
        self._flows = True
        self.let(len(self._waiting))

    def stop(self) -> None:
        self._flows = False

    def server(self, name: str) -> Handler:
        """Answers with its name, in the form that the path asks for."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                form = (await read_message(reader)).start.split(" ")[1].strip("/")
                for piece in _pieces(name, form):
                    if not self._flows:
                        turn = asyncio.Event()
                        self._waiting.append(turn)
                        await turn.wait()
                    writer.write(piece)
                    await writer.drain()
                if form == "close":
                    return

        return serve


def _pieces(name: str, form: str) -> list[bytes]:
    one, two = name[:1], name[1:]
    if form == "chunked":
        first, second = (f"{len(part)}\r\n{part}\r\n" for part in (one, two))
        cut = ["Transfer-Enc", "oding: chunked\r\n\r\n", first[:2], first[2:], second, "0\r", "\n\r\n"]
    elif form == "close":
        cut = ["Connection: close\r", "\n\r\n", one, two]
    else:
        cut = [f"Content-Length: {len(name)}\r\n\r\n", one, two]
    return [piece.encode() for piece in ("HTTP/1.1 2", "00 OK\r\n", *cut)]


class _Http1:
    """Asks one request after the other on one connection."""

    def __init__(self, net: Mesh, web: Pod, client: Client) -> None:
        self._net = net
        self._web = web
        self._client = client
        self._turn = asyncio.Lock()

    def __call__(self, form: str) -> Coroutine[None, None, tuple[int, str]]:
        if form == "close":
            return self._alone()
        self._client.send(get(API, f"/{form}"))
        return self._answer()

    async def _alone(self) -> tuple[int, str]:
        client = await self._net.client(self._web.outbound)
        client.send(get(API, "/close"))
        return self._judged(await read_message(client.reader, until_close=True))

    async def _answer(self) -> tuple[int, str]:
        async with self._turn:
            message = await read_message(self._client.reader)
        return self._judged(message)

    @staticmethod
    def _judged(message: Message) -> tuple[int, str]:
        own = message.get("x-smi-mesh-reason") or message.get("x-smi-mesh-denial")
        return message.status, own or message.body.decode()


class _Http2:
    """Asks any number of requests at once on one connection."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def __call__(self, _form: str) -> Coroutine[None, None, tuple[int, str]]:
        stream = self._peer.get()
        return self._answer(stream)

    async def _answer(self, stream: Stream) -> tuple[int, str]:
        events = self._peer.events
        await until(lambda: ("end", stream.id) in events.seen)
        [head] = [event for event in events.seen if event[:2] == ("response", stream.id)]
        fields = {name.decode(): value.decode() for name, value in head[3]}
        own = fields.get("x-smi-mesh-reason") or fields.get("x-smi-mesh-denial")
        return head[2], own or events.data[stream.id].decode()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.booleans())
@example([Ask(0), Settle(), Ready(frozenset()), Ask(0), Settle(), Ready(frozenset({"root"})), Ask(0)], False)
@example(
    [
        *[Ask(number, form) for number, form in enumerate(FORMS)],
        *[Turns(30), Pieces(4), Ready(frozenset({"v1"})), Turns(9), Pieces(5), Rotate("web"), Turns(9)],
        *[Pieces(3), Rotate("root"), Admit("root", admits=False), Turns(9), Ask(1), Pieces(3), Settle()],
    ],
    False,
)
@example(
    [Weights((1, 1)), *[Ask(0), Turns(1)] * 6, Admit("v1", admits=False), *[Ask(1)] * 4, Rotate("v2")], True
)
def test_every_answer_was_allowed_and_every_request_has_an_outcome(steps: list[Step], http2: bool) -> None:
    async def go() -> None:
        unheard: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
        async with mesh() as net:
            driver = Driver(net, http2)
            try:
                await driver.start()
                for step in steps:
                    driver.take(step)
                    if isinstance(step, Settle):
                        await driver.settle()
                    for _ in range(step.count if isinstance(step, Turns) else 0):
                        await asyncio.sleep(0)
                await driver.finish()
            finally:
                await driver.stop()
        assert unheard == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(go())
