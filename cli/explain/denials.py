"""A denial id → the denial it stands for.

An id is a digest of reason, caller, destination and port (`smi.policy.access.denial_id`), so it needs no
log to be understood: every denial that the mesh could utter is made, until one has this id. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cli.explain.decision import HTTP, Asking, Miss, find_pods
from controller.compile.endpoints import identity_of
from controller.compile.snapshot import Snapshot
from smi.names import NamespacedName, ServiceIdentity
from smi.policy.access import DenialReason, Peer, compile_access, denial_id
from smi.policy.match import Request
from smi.policy.snapshot import Grant, Inbound, RouteMatch

MAX_GUESSES: Final = 20_000_000
"""Less than a minute of work."""

_OF_CALLERS: Final = (
    DenialReason.ROUTE_NOT_ALLOWED,
    DenialReason.PORT_NOT_ALLOWED,
    DenialReason.SOURCE_NOT_ALLOWED,
    DenialReason.NO_TRAFFIC_TARGET,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What an id says. `source` and `destination` are SPIFFE ids; an empty one is not known."""

    reason: DenialReason
    source: str
    destination: str
    port: int


class TooManyError(Exception):
    """The mesh is too large to try every denial."""


def find_denial(snapshot: Snapshot, wanted: str) -> Found | None:
    """The denial of this id among all that could be uttered now; None if there is none.

    Callers are the accounts of all pods and all accounts that a TrafficTarget names; ports those that
    the destination's pods or Services declare, or a grant names. Raises TooManyError.
    """
    callers = sorted(_callers(snapshot))
    for guesses, found in enumerate(_denials(snapshot, callers)):
        if guesses >= MAX_GUESSES:
            raise TooManyError(f"none of the first {MAX_GUESSES} denials has this id, and there may be more")
        if denial_id(found.reason, found.source, found.destination, found.port) == wanted:
            return found
    return None


def _callers(snapshot: Snapshot) -> set[str]:
    world = snapshot.made_from.world
    accounts = {identity_of(pod, world.trust_domain) for pod in world.pods.values() if pod.meshed}
    for target in world.targets.values():
        for source in target.sources:
            accounts.add(ServiceIdentity(world.trust_domain, source.namespace, source.name).uri)
    return accounts


def _denials(snapshot: Snapshot, callers: list[str]) -> Iterator[Found]:
    ports: dict[str, set[int]] = {}
    for inbound in snapshot.inbound.values():
        known = ports.setdefault(inbound.identity, set())
        known.update(port.port for port in inbound.ports)
        for grant in inbound.grants:
            known.update(grant.tcp.ports if grant.tcp else ())
            known.update(grant.udp.ports if grant.udp else ())
            known.update((grant.port,) if grant.port else ())
    every = sorted(set().union(*ports.values()))
    for destination, numbers in sorted(ports.items()):
        for port in sorted(numbers):
            yield Found(DenialReason.NO_IDENTITY, "", destination, port)
            for source in callers:
                for reason in _OF_CALLERS:
                    yield Found(reason, source, destination, port)
    for port in every:
        for source in ("", *callers):
            yield Found(DenialReason.NO_CONFIG, source, "", port)


def misses(snapshot: Snapshot, found: Found, request: Request | None) -> tuple[Miss, ...]:
    """What keeps each TrafficTarget of the destination from allowing it, by the configuration of now.

    Without the request, which an id does not hold, a TrafficTarget that allows some on this port is
    said with what it allows. Empty where nothing has this destination, or where all is allowed now.
    """
    inbound = _enforced(snapshot, found.destination)
    if inbound is None or not found.source:
        return ()
    peer = _peer(snapshot, found.source)
    if request is not None:
        return tuple(Asking(snapshot, peer, HTTP, request).misses(inbound, found.port))
    # A request that only a match of everything allows: no method has a space in it.
    asking = Asking(snapshot, peer, HTTP, Request(b"any method", b"/", b""))
    named = set(compile_access(inbound).grants_for(peer))
    allowing = {
        grant.grant.target: grant.grant for grant in named if grant.http and grant.http_port(found.port)
    }
    return tuple(
        Miss(miss.target, _allowed(allowing[str(miss.target)])) if str(miss.target) in allowing else miss
        for miss in asking.misses(inbound, found.port)
    )


def _enforced(snapshot: Snapshot, identity: str) -> Inbound | None:
    """What the pods of an account enforce: that of the first, as TrafficTargets name accounts."""
    of_account = (one for _, one in sorted(snapshot.inbound.items()) if one.identity == identity)
    return next(of_account, None)


def _peer(snapshot: Snapshot, identity: str) -> Peer:
    try:
        account = ServiceIdentity.parse(identity)
    except ValueError:
        return Peer(identity)  # of another trust domain: its pods are not ours to know
    world = snapshot.made_from.world
    there = find_pods(world, NamespacedName(account.namespace, account.service_account))
    own = [pod for pod in there if identity_of(pod, world.trust_domain) == identity]
    return Peer(identity, str(own[0].name) if own else None)


def _allowed(grant: Grant) -> str:
    matches = ", ".join(_described(match) for match in grant.http or ())
    return f"the request met none of {matches}"


def _described(match: RouteMatch) -> str:
    parts = [*sorted(match.methods), *([match.path] if match.path is not None else [])]
    parts += [f"{name}: {pattern}" for name, pattern in match.headers]
    return f"{match.name} ({' '.join(parts) or 'anything'})"
