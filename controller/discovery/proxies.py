"""The register of proxies: who is connected, what each runs and asks for. Data, single-threaded.

Knows no sockets. A proxy whose stream broke is remembered as long as its pod exists: it goes on
running its last config, which is what `Programmed` has to count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cache

from controller.compile.conditions import ObjectStatus
from controller.compile.slicing import resolve
from controller.compile.snapshot import Snapshot
from controller.compile.topology import destination_key, split_transport
from smi.names import NamespacedName


@dataclass(slots=True, eq=False)
class Proxy:
    """One sidecar. Times are of the loop's clock."""

    pod: str
    """`namespace/name`."""
    identity: str
    version: str
    connected_at: float
    keys: set[str] = field(default_factory=set)
    """Subscriptions."""
    revision: int = 0
    """Last revision it acknowledged; 0 = none yet. Of this controller's numbering."""
    nack: str | None = None
    """Why it refused the latest update, if it did."""
    connected: bool = True
    returning: bool = False
    """Its pod has been connected before, so that it may be running an older config."""

    @property
    def counts(self) -> bool:
        return self.returning or self.revision > 0 or self.nack is not None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an SMI object's generation has got."""

    done: int
    """Proxies that run it."""
    concerned: int
    """Proxies that run it or an older one. One that has not been configured yet runs neither."""
    refused: tuple[str, ...] = ()
    """`pod: error` of proxies that refused the update."""


class Proxies:
    """All proxies, by pod. `on_change` is called after every acknowledgement, arrival and departure."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self._by_pod: dict[str, Proxy] = {}
        self.on_change = on_change

    def __iter__(self) -> Iterator[Proxy]:
        return iter(self._by_pod.values())

    @property
    def connected(self) -> int:
        return sum(proxy.connected for proxy in self)

    def connect(self, proxy: Proxy) -> Proxy | None:
        """Register a new stream; returns the stream of the same pod that it supersedes, if any."""
        former = self._by_pod.get(proxy.pod)
        proxy.returning = former is not None
        self._by_pod[proxy.pod] = proxy
        self.on_change()
        return former if former is not None and former.connected else None

    def disconnect(self, proxy: Proxy) -> None:
        proxy.connected = False
        self.on_change()

    def acknowledge(self, proxy: Proxy, revision: int) -> None:
        proxy.revision = max(proxy.revision, revision)
        proxy.nack = None
        self.on_change()

    def refuse(self, proxy: Proxy, revision: int, error: str) -> None:
        proxy.nack = f"revision {revision}: {error}"
        self.on_change()

    def forget_absent(self, pods: Collection[str]) -> None:
        """Forget disconnected proxies whose pod does not exist any more."""
        for pod, proxy in list(self._by_pod.items()):
            if not proxy.connected and pod not in pods:
                del self._by_pod[pod]

    def progress(self, snapshot: Snapshot) -> Callable[[ObjectStatus, int], Progress]:
        """A function that tells how many of the proxies an object concerns run revision `since` or later.

        Concerned are the pods it shapes the inbound policy of, and every proxy subscribed to a
        destination it shapes. Only pods that exist in `snapshot` count.
        """
        users = self._users(snapshot)

        def progress(status: ObjectStatus, since: int) -> Progress:
            pods = set(status.pods)
            for key in status.destinations:
                pods |= users.get(key, set())
            pods &= snapshot.inbound.keys()
            known = [proxy for pod in sorted(pods) if (proxy := self._by_pod.get(pod)) and proxy.counts]
            done = sum(proxy.revision >= since for proxy in known)
            refused = tuple(f"{proxy.pod}: {proxy.nack}" for proxy in known if proxy.nack)
            return Progress(done, len(known), refused)

        return progress

    def _users(self, snapshot: Snapshot) -> dict[str, set[str]]:
        """Destination key → pods subscribed to it."""

        @cache  # many proxies ask for the same
        def destination_of(namespace: str, key: str) -> str | None:
            found = resolve(snapshot, namespace, key)
            if found.service is None:
                return None
            transport, _ = split_transport(key)
            return destination_key(NamespacedName.parse(found.service), found.port, transport)

        users: defaultdict[str, set[str]] = defaultdict(set)
        for proxy in self:
            namespace = proxy.pod.partition("/")[0]
            for key in proxy.keys:
                destination = destination_of(namespace, key)
                if destination is not None:
                    users[destination].add(proxy.pod)
        return users
