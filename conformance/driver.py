"""What a case sees of a mesh: one namespace of its own, workloads in it, and what they observe.

Types only. A case holds a `Mesh` and cannot tell a cluster on this machine from one far away.
Every method raises `DriverError` when the cluster, not the mesh, is in the way: such a case is
reported as an error, never as a verdict on the mesh.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

Http = Literal["http/1.1", "http/2", "grpc"]


class DriverError(Exception):
    """The cluster or the test application could not do what was asked; no verdict on the mesh."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request came to: a status, or an error."""

    status: int | None
    server: str | None
    """NAME of the application that answered; None for an answer that a proxy made itself."""
    error: str | None = None
    """refused, reset, closed, timeout, unreachable, protocol or proxy; None when there was an answer."""
    detail: str = ""
    seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: str = ""

    @property
    def seen(self) -> Mapping[str, Any]:
        """What the application saw: service, pod, method, target, headers (list of pairs), body."""
        account: Mapping[str, Any] = json.loads(self.body.partition("\n")[0])
        return account

    def __str__(self) -> str:
        if self.error:
            return f"{self.error} ({self.detail})" if self.detail else self.error
        return f"{self.status} from {self.server or 'a proxy'}"


@dataclass(frozen=True, slots=True)
class Answers:
    """What all requests of one order came to. `results` is empty when there were more than 100."""

    total: int
    servers: Mapping[str, int]
    """Requests answered 200, by the NAME of who answered."""
    statuses: Mapping[int, int]
    errors: Mapping[str, int]
    results: tuple[Answer, ...] = ()

    @property
    def one(self) -> Answer:
        """The answer to a single request."""
        if self.total != 1:
            raise DriverError(f"one answer was asked for, {self.total} are there")
        return self.results[0]

    def __str__(self) -> str:
        parts = [f"{count} × {name}" for name, count in self.servers.items()]
        parts += [f"{count} × status {status}" for status, count in self.statuses.items() if status != 200]
        parts += [f"{count} × {name}" for name, count in self.errors.items()]
        return ", ".join(parts) or "nothing"


@dataclass(frozen=True, slots=True)
class Heard:
    """What one TCP connection, or one UDP flow, came to."""

    received: tuple[str, ...]
    """Lines heard: to `ping` the application NAME answers `NAME ping`; its greeting is `NAME ready`."""
    error: str | None = None
    """refused, reset, closed, timeout, unreachable or proxy; None when every line was answered."""
    detail: str = ""
    seconds: float = 0.0

    @property
    def server(self) -> str | None:
        """NAME of the application that answered."""
        return self.received[0].partition(" ")[0] if self.received else None


@dataclass(frozen=True, slots=True)
class Conversations:
    """What all connections of one order came to."""

    results: tuple[Heard, ...]

    @property
    def one(self) -> Heard:
        if len(self.results) != 1:
            raise DriverError(f"one conversation was asked for, {len(self.results)} are there")
        return self.results[0]

    @property
    def servers(self) -> Mapping[str, int]:
        """Connections served without error, by NAME."""
        return Counter(heard.server for heard in self.results if heard.server and not heard.error)

    @property
    def errors(self) -> Mapping[str, int]:
        return Counter(heard.error for heard in self.results if heard.error)

    @property
    def total(self) -> int:
        return len(self.results)

    def __str__(self) -> str:
        parts = [f"{count} × {name}" for name, count in (*self.servers.items(), *self.errors.items())]
        return ", ".join(parts) or "nothing"


@dataclass(frozen=True, slots=True)
class Condition:
    """One status condition. `current` is whether it speaks about the object's present generation."""

    type: str
    status: str
    reason: str
    message: str
    current: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One Kubernetes Event about an object."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server (its schema, or a webhook) refused an object."""

    status: int
    reason: str
    message: str


class Mesh(Protocol):
    """A mesh, seen from one case. Names without a namespace mean the case's own namespace."""

    @property
    def namespace(self) -> str:
        """The case's own namespace: nobody else touches it while the case runs."""

    @property
    def second(self) -> str:
        """A second namespace of the case; runs `visitor`, whose service account is named `client` too."""

    @property
    def step_objects(self) -> Mapping[str, tuple[Object, ...]]:
        """The objects of the case's YAML file by step, placeholders filled in."""

    # -- objects -----------------------------------------------------------------------------------

    async def apply(self, step: str = "", /, **values: object) -> tuple[Object, ...]:
        """Create or merge the objects of one step of the case's YAML file; `values` fill placeholders.

        They are gone after the case. Raises `expect.ExpectationError` when the API refuses one.
        """

    async def apply_object(self, *objects: Object) -> tuple[Object, ...]:
        """The same for objects made in Python."""

    async def attempt(self, step: str = "", /, **values: object) -> Refusal | None:
        """Apply a step that should be refused: the first refusal, or None when everything was accepted."""

    async def attempt_object(self, obj: Object) -> Refusal | None: ...

    async def patch(
        self,
        kind: str,
        name: str,
        change: object,
        *,
        version: str | None = None,
        namespace: str | None = None,
    ) -> Object:
        """Patch an object: a JSON merge patch (dict) or a JSON patch (list). `kind`: a core kind,
        Deployment, or an SMI kind; `version` is `v1alpha3` or with its group, default the newest served."""

    async def replace(self, obj: Object) -> Object:
        """PUT an object as it is (for read-modify-write cases)."""

    async def delete(self, kind: str, name: str, *, namespace: str | None = None) -> None:
        """Delete an object and wait until it is gone; one that is not there is fine."""

    async def read(
        self, kind: str, name: str, *, version: str | None = None, namespace: str | None = None
    ) -> Object:
        """Read an object in a version of its group. ExpectationError if it is not there or not served."""

    async def raw(self, path: str, query: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """GET any path of the API server: (status, JSON answer)."""

    async def conditions(
        self, kind: str, name: str, *, namespace: str | None = None
    ) -> Mapping[str, Condition]:
        """The status conditions of an object by type."""

    async def events(self, kind: str, name: str, *, namespace: str | None = None) -> tuple[Event, ...]:
        """The events about an object."""

    # -- workloads ---------------------------------------------------------------------------------

    async def deploy(
        self,
        name: str,
        *,
        account: str | None = None,
        replicas: int = 1,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        ports: Sequence[tuple[str, int]] | None = None,
        meshed: bool = True,
        namespace: str | None = None,
        container: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a workload (account, Deployment, Service `name`) and wait until it is ready.

        For what the standing workloads cannot show: each costs a second. `env` is conformance.app's
        (HTTP_PORT, TCP_PORT, UDP_PORT, GREET …), `container` is merged into the container.
        """

    async def scale(self, name: str, replicas: int, *, namespace: str | None = None) -> None:
        """Scale a Deployment and wait until exactly so many pods are ready and no others are left."""

    async def address(self, app: str, *, namespace: str | None = None) -> str:
        """The IP of a workload's pod."""

    async def reached(self, app: str, *, namespace: str | None = None) -> int:
        """How many requests, TCP lines and UDP datagrams reached this workload's application until now."""

    # -- traffic -----------------------------------------------------------------------------------

    async def call(
        self,
        app: str,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: str = "",
        count: int = 1,
        concurrency: int = 1,
        timeout: float = 5.0,
        keep_alive: bool = True,
        http: Http = "http/1.1",
    ) -> Answers:
        """Send HTTP requests from inside the pod of `app` (`client`, `other`, `visitor`, `outsider`, …)."""

    async def talk(
        self,
        app: str,
        host: str,
        port: int,
        *,
        send: Sequence[str] = ("ping",),
        count: int = 1,
        concurrency: int = 1,
        greeting: bool = False,
        timeout: float = 5.0,
    ) -> Conversations:
        """Open TCP connections from inside the pod of `app` and send lines."""

    async def datagrams(
        self,
        app: str,
        host: str,
        port: int,
        *,
        send: Sequence[str] = ("ping",),
        count: int = 1,
        concurrency: int = 1,
        timeout: float = 2.0,
    ) -> Conversations:
        """Send UDP datagrams from inside the pod of `app`; each of `count` flows has its own source port."""

    # -- waiting -----------------------------------------------------------------------------------

    async def converge(
        self, probe: Callable[[], Awaitable[T]], what: str = "", *, seconds: float = 20.0
    ) -> T:
        """Repeat `probe` until it raises no ExpectationError, and return its value.

        For what must become true. After `seconds`: an ExpectationError with `what` and the last failure.
        """

    async def settle(self) -> None:
        """Wait until the mesh has worked in everything applied and deleted so far.

        For what must *stay* false: it changes a standing marker object and waits until traffic shows the
        change in the callers (open cases) or at `alpha`, `beta` and `gamma` (closed cases, also where a
        mode of the namespace lets everything pass). Afterwards the case asserts once, without retries.
        """
