"""Where does a request, or a connection, of the app go? (S4, S7–S11, R4, R5)

`Router.plan` answers with a `Plan`, without which no connection to a server can be opened
(`serve.pool`), or says why there is none. Everything that depends only on config is prepared when
config changes; per request there is one choice of split, one turn, and one choice of endpoint.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from dataplane.core.balance import Load, pick
from dataplane.core.breaker import Breaker, Breakers, Member
from dataplane.core.outcome import Outcome
from smi.policy.match import Request
from smi.policy.snapshot import Backend, Cluster, Destination, Endpoint
from smi.policy.split import DestinationTable, Via, choose

_MAX_WAYS: Final = 4096


class Turns(Protocol):
    """Whose turn it is among a split's backends (S14)."""

    def next(self) -> Backend | None: ...


class Target(Protocol):
    """What is behind one address, as `state.Target` holds it."""

    @property
    def destination(self) -> Destination: ...
    @property
    def table(self) -> DestinationTable: ...
    @property
    def turns(self) -> Mapping[str, Turns]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Leave to send to one endpoint, and what to count it under. Made by `Router` only."""

    endpoint: Endpoint
    service: str = ""
    """Root service `namespace/name`; empty for what the mesh does not know."""
    backend: str = ""
    """Backend service of the split that decided; empty without a split."""
    cluster: str = ""
    load: Load = field(default_factory=Load)
    split: str = ""
    """`namespace/name` of the TrafficSplit that decided; empty without one."""
    guard: Member | None = None
    """The same as `load`, where the cluster has a circuit breaker."""


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Nobody to send to. `outcome` is what to answer, `service` and `backend` what to count it under."""

    outcome: Outcome
    detail: str = ""
    service: str = ""
    backend: str = ""
    split: str = ""


class Router:
    """Plans, prepared per cluster and kept until its endpoints change. One per proxy.

    `cluster` reads the ready endpoints of a key, `draw` gives numbers in [0, 1).
    """

    __slots__ = ("_cluster", "_draw", "_loads", "_ways", "breakers")

    def __init__(
        self, cluster: Callable[[str], Cluster], draw: Callable[[], float], breakers: Breakers | None = None
    ) -> None:
        self._cluster = cluster
        self._draw = draw
        self.breakers = breakers
        """Asked when ways are prepared; after a change of them, `forget` those that are."""
        self._loads: weakref.WeakValueDictionary[tuple[str, str, int], Load] = weakref.WeakValueDictionary()
        self._ways: dict[tuple[str, str, str, str], tuple[Cluster, tuple[Plan, ...]]] = {}

    def plan(self, target: Target, request: Request | None) -> Plan | NoRoute:
        """Decide for one request; `request` None: for one opaque connection.

        Not for a destination outside the mesh (`destination.cluster` None): see `direct`.
        """
        destination = target.destination
        service = destination.service or ""
        chosen = choose(target.table, request)
        if isinstance(chosen, Via):
            backend = target.turns[chosen.split.name].next()
            if backend is not None:
                # `next` looked at this config's endpoints: there is at least one
                return self._endpoint(backend.cluster, service, backend.service, chosen.split.name)
            if not chosen.split.fallback_root:
                detail = f"no backend of TrafficSplit {chosen.split.name} can take the request"
                return NoRoute(Outcome.NO_BACKEND, detail, service, split=chosen.split.name)
        return self._endpoint(destination.cluster or "", service, "")

    def forget(self) -> None:
        """Prepare every way anew."""
        self._ways.clear()

    def active(self) -> int:
        """Requests and opaque connections under way to all endpoints."""
        return sum(load.active for load in self._loads.values())

    def direct(self, host: str, port: int) -> Plan:
        """To an address the mesh knows nothing about, unchanged."""
        return Plan(Endpoint(host, port), load=self._load(host, port))

    def another(self, plan: Plan, tried: Collection[Plan]) -> Plan | None:
        """Another endpoint of the same backend, so that weights hold under failures; None if none is left."""
        ways = self._prepared(plan.cluster, plan.service, plan.backend, plan.split)
        loads = {id(other.load) for other in tried}
        return pick([way for way in ways if id(way.load) not in loads], self._draw)

    def _endpoint(self, cluster: str, service: str, backend: str, split: str = "") -> Plan | NoRoute:
        plans = self._prepared(cluster, service, backend, split)
        if len(plans) == 1:
            return plans[0]
        found = pick(plans, self._draw)
        if found is None:
            detail = f"{backend or service or cluster} has no ready endpoint"
            return NoRoute(Outcome.NO_ENDPOINT, detail, service, backend, split)
        return found

    def _prepared(self, key: str, service: str, backend: str, split: str) -> tuple[Plan, ...]:
        known = self._ways.get((key, service, backend, split))
        if known is not None and known[0] is self._cluster(key):
            return known[1]
        return self._prepare(key, service, backend, split)

    def _prepare(self, key: str, service: str, backend: str, split: str) -> tuple[Plan, ...]:
        cluster = self._cluster(key)
        breaker = None if self.breakers is None else self.breakers.of(key)
        if breaker is None:
            plans = tuple(
                Plan(endpoint, service, backend, key, self._load(endpoint.ip, endpoint.port), split)
                for endpoint in cluster
            )
        else:
            members = tuple(self._member(breaker, endpoint) for endpoint in cluster)
            breaker.members = members
            plans = tuple(
                Plan(endpoint, service, backend, key, member, split, member)
                for endpoint, member in zip(cluster, members, strict=True)
            )
        if len(self._ways) >= _MAX_WAYS:
            self._ways.clear()
        self._ways[key, service, backend, split] = (cluster, plans)
        return plans

    def _load(self, host: str, port: int) -> Load:
        load = self._loads.get(("", host, port))
        if load is None:
            load = self._loads["", host, port] = Load()
        return load

    def _member(self, breaker: Breaker, endpoint: Endpoint) -> Member:
        """What goes to an endpoint by a cluster with a breaker is counted apart from what goes there else."""
        key = breaker.key, endpoint.ip, endpoint.port
        known = self._loads.get(key)
        if isinstance(known, Member) and known.breaker is breaker:
            return known
        member = Member(breaker, endpoint.pod or f"{endpoint.ip}:{endpoint.port}")
        self._loads[key] = member
        return member
