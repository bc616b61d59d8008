"""Hypothesis strategies for policy values and requests over a small world, so that things collide."""

from __future__ import annotations

from hypothesis import strategies as st

from smi.policy.access import Peer
from smi.policy.match import Request
from smi.policy.snapshot import (
    Backend,
    CircuitBreaker,
    Destination,
    Endpoint,
    Grant,
    Inbound,
    InboundPort,
    Limited,
    Mode,
    Mtls,
    Outliers,
    PortSet,
    Probe,
    Protocol,
    RateLimit,
    Regex,
    RouteMatch,
    Split,
)

IDENTITIES = [f"spiffe://cluster.local/ns/shop/sa/{name}" for name in ("web", "api", "stranger")]
PODS = ["shop/web-1", "shop/api-1", "shop/stranger-1"]
PORTS = [80, 8080, 5432]
METHODS = ["GET", "POST"]
PATHS = ["/items", "/items/1", "/admin", "/"]
PATTERNS = ["/items", "/items$", ".*", "/(items|admin)", "/items/[0-9]+", "/ADMIN"]

identities = st.sampled_from(IDENTITIES)
pods = st.sampled_from(PODS)
ports = st.sampled_from(PORTS)
names = st.sampled_from(["a", "b", "c"])
keys = st.builds("shop/{}".format, names)

matches = st.builds(
    RouteMatch,
    group=keys,
    name=names,
    path=st.none() | st.sampled_from(PATTERNS),
    methods=st.frozensets(st.sampled_from(METHODS), max_size=2),
    headers=st.lists(
        st.tuples(st.sampled_from(["x", "host"]), st.sampled_from(["1", "^api$"])), max_size=2
    ).map(lambda pairs: tuple(sorted(pairs))),
    regex=st.sampled_from(Regex),
)
match_tuples = st.lists(matches, max_size=3).map(tuple)
port_sets = st.builds(PortSet, every=st.booleans(), ports=st.frozensets(ports, max_size=2))
grants = st.builds(
    Grant,
    target=keys,
    sources=st.frozensets(identities, max_size=2),
    source_pods=st.frozensets(pods, max_size=1),
    port=st.none() | ports,
    tcp=st.none() | port_sets,
    udp=st.none() | port_sets,
    http=st.none() | match_tuples,
)
limits = st.builds(
    RateLimit,
    service=keys,
    text=st.just("1/s"),
    what=st.sampled_from(Limited),
    ports=st.frozensets(ports, max_size=2),
    count=st.integers(1, 100),
    seconds=st.sampled_from([1, 60]),
    burst=st.integers(1, 100),
    per_client=st.booleans(),
    source=st.none() | identities,
    matches=st.none() | match_tuples,
)
_some = st.none() | st.integers(1, 100)
breakers = st.builds(
    CircuitBreaker,
    max_connections=_some,
    max_pending=_some,
    max_requests=_some,
    max_retries=_some,
    retry_percent=_some,
    outliers=st.none()
    | st.builds(
        Outliers,
        consecutive_errors=_some,
        consecutive_gateway_errors=_some,
        base_seconds=st.floats(0, 60),
        max_seconds=st.floats(0, 600),
        max_percent=st.integers(0, 100),
    ),
)
inbounds = st.builds(
    Inbound,
    pod=st.just("shop/api-1"),
    identity=st.just(IDENTITIES[1]),
    mode=st.sampled_from(Mode),
    mtls=st.sampled_from(Mtls),
    same_service_account=st.booleans(),
    grants=st.lists(grants, max_size=4).map(tuple),
    ports=st.lists(st.builds(InboundPort, ports, st.sampled_from(Protocol)), max_size=2).map(tuple),
    probes=st.lists(st.builds(Probe, ports, st.sampled_from(PATHS)), max_size=2).map(tuple),
    limits=st.lists(limits, max_size=2).map(tuple),
)
peers = st.none() | st.builds(Peer, identities, st.none() | pods)
requests = st.builds(
    Request,
    method=st.sampled_from([b"GET", b"POST", b"get"]),
    path=st.sampled_from([path.encode() for path in PATHS]),
    host=st.sampled_from([b"api", b"api:8080", b""]),
    headers=st.lists(st.tuples(st.just(b"x"), st.sampled_from([b"1", b"2"])), max_size=2).map(tuple),
)
backends = st.builds(Backend, service=keys, weight=st.integers(0, 10**20), cluster=keys)
splits = st.builds(
    Split,
    name=keys,
    matches=st.none() | match_tuples,
    backends=st.lists(backends, max_size=3).map(tuple),
    fallback_root=st.booleans(),
)
destinations = st.builds(
    Destination,
    service=st.none() | keys,
    port=ports,
    protocol=st.sampled_from(Protocol),
    cluster=st.none() | keys,
    splits=st.lists(splits, max_size=3).map(tuple),
)
clusters = st.lists(
    st.builds(
        Endpoint,
        ip=st.just("10.0.0.1"),
        port=ports,
        pod=st.none() | pods,
        identity=st.none() | identities,
        leaving=st.booleans(),
    ),
    max_size=3,
).map(tuple)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
