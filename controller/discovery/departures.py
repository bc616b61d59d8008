"""Pods that are about to end and wait until nobody calls them any more (S33). Data, single-threaded."""

from __future__ import annotations

from collections.abc import Iterable

from controller.discovery.proxies import Proxy
from controller.hub import Published


class Departures:
    """Who waits, and from which revision on nobody is told to call it."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}  # 0: the config still names it
        self._called: frozenset[str] = frozenset()
        self._called_in = 0

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, pod: str) -> None:
        """The proxy of `pod` (`namespace/name`) asks."""
        self._since.setdefault(pod, 0)

    def forget(self, pod: str) -> None:
        """It asks no more. Harmless for one that never did."""
        self._since.pop(pod, None)

    def withdrawn(self, latest: Published, proxies: Iterable[Proxy]) -> list[str]:
        """The waiting pods that no connected proxy calls any more; they wait no longer.

        A proxy without a connection cannot be told: it finds out by itself (`dataplane.serve.hold`).
        """
        called = self._named(latest)
        for pod, since in self._since.items():
            self._since[pod] = 0 if pod in called else since or latest.revision
        concerned = [
            proxy
            for proxy in proxies
            if proxy.connected and proxy.counts and proxy.keys and proxy.pod in latest.snapshot.inbound
        ]
        gone = [
            pod
            for pod, since in self._since.items()
            if since and all(proxy.revision >= since or proxy.pod == pod for proxy in concerned)
        ]
        for pod in gone:
            del self._since[pod]
        return gone

    def _named(self, latest: Published) -> frozenset[str]:
        """Every pod that is an endpoint of some cluster."""
        if self._called_in != latest.revision:
            clusters = latest.snapshot.clusters.values()
            self._called = frozenset(one.pod for cluster in clusters for one in cluster if one.pod)
            self._called_in = latest.revision
        return self._called
