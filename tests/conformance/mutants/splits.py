"""Mutants of traffic splitting: weights, roots, backends, ports, names, and their lifetime."""

# ruff: noqa: E501 - lines of our source, and their mutations, are quoted as they are

from __future__ import annotations

from typing import Final

from tests.conformance.mutants.mutation import Edit, Mutant, cases_of

_PICK: Final = "smi.policy.split"
_SPLITS: Final = "controller.compile.splits"
_LOWER: Final = "smi.lower"
_ROUTER: Final = "dataplane.core.outbound"
_STATE: Final = "dataplane.state"
_ON_PORT: Final = "splits = tuple(_on_port(split, port, world) for split in effective.get(name, ()))"
_BACKEND: Final = "Backend(str(name), weight, destination_key(name, port.port, port.transport))"
_EXPOSES: Final = "return service is not None and port_of(service, port.port, port.transport) is not None\n"

WEIGHTS: Final = (
    Mutant(
        "equal-weights",
        "gives every backend with a weight the same share",
        (
            Edit(
                _PICK,
                "self._weights = tuple(weight // unit for weight in weights if weight > 0)",
                "self._weights = tuple(1 for weight in weights if weight > 0)",
            ),
        ),
        kills=cases_of(
            "split",
            "grpc-weights http2-weights lifecycle-rollout lifecycle-weight-change "
            "matches-weights ports-one-by-one root-among-backends "
            "smooth-three-backends smooth-two-backends smooth-under-churn "
            "smooth-uneven-backends tcp-weights udp-weights "
            "versions-change-through-another versions-v1alpha1 "
            "versions-v1alpha1-example weights-are-relative weights-example "
            "weights-large weights-of-each-client weights-of-several-roots "
            "weights-three-backends weights-with-new-connections "
            "zero-missing-backend",
        ),
    ),
    Mutant(
        "heaviest-takes-all",
        "sends everything to the first backend of the greatest weight",
        (
            Edit(
                _PICK,
                "self._total = sum(self._weights)",
                "best = self._weights.index(max(self._weights))\n"
                "        self._weights = tuple(int(at == best) for at in range(len(self._weights)))\n"
                "        self._total = 1",
            ),
        ),
        kills=cases_of(
            "split",
            "grpc-weights http2-weights lifecycle-backend-removed lifecycle-rollout "
            "lifecycle-weight-change matches-weights names-from-elsewhere "
            "names-in-odd-forms names-of-backends-in-split names-of-callers "
            "ports-by-number ports-mended ports-one-by-one ports-root-target-port "
            "ports-several ports-target-port root-among-backends selectors-headless "
            "selectors-none selectors-of-root smooth-three-backends "
            "smooth-two-backends smooth-under-churn smooth-uneven-backends "
            "tcp-connection-stays tcp-weights udp-flow-stays udp-weights "
            "versions-change-through-another versions-v1alpha1 "
            "versions-v1alpha1-example versions-v1alpha2 weights-are-relative "
            "weights-example weights-half weights-ignore-refusals weights-large "
            "weights-of-each-client weights-of-several-roots "
            "weights-on-one-connection weights-three-backends "
            "weights-with-new-connections zero-missing-backend zero-unready-backend",
        ),
    ),
    Mutant(
        "zero-is-one",
        "counts a weight of 0 as 1",
        (
            Edit(
                _SPLITS,
                _BACKEND,
                "Backend(str(name), weight or 1, destination_key(name, port.port, port.transport))",
            ),
        ),
        kills=cases_of(
            "split",
            "fallback-weights-zero lifecycle-rollout lifecycle-weight-change "
            "matches-example versions-change-through-another "
            "weights-zero-gets-nothing zero-all zero-of-filtered zero-tcp "
            "zero-then-weight",
        ),
    ),
    Mutant(
        "random-picks",
        "draws backends by lot, with the right chances",
        (
            Edit(
                _PICK,
                "        at = self._at\n        self._at = at + 1 if at + 1 < len(cycle) else 0\n        return cycle[at]\n",
                '        return __import__("random").choice(cycle)\n',
            ),
        ),
        kills=cases_of("split", "smooth-three-backends smooth-two-backends smooth-uneven-backends"),
    ),
    Mutant(
        "turns-begin-anew",
        "begins the cycle of backends anew with every update of anything",
        (
            Edit(
                _STATE,
                "        self._targets, self._turns = staged.targets, staged.turns\n",
                "        self._targets, self._turns = staged.targets, staged.turns\n"
                '        for turns in staged.turns.values() if update.get("resources") else ():\n'
                "            turns._pickers.clear()\n"
                "            turns._epoch = -1\n",
            ),
        ),
        kills=cases_of("split", "smooth-under-churn"),
    ),
    Mutant(
        "weights-over-100-capped",
        "takes weights for per cent: what is over 100 counts as 100",
        (
            Edit(
                _SPLITS,
                _BACKEND,
                "Backend(str(name), min(weight, 100), destination_key(name, port.port, port.transport))",
            ),
        ),
        kills=cases_of(
            "split",
            "lifecycle-rollout root-among-backends versions-v1alpha1 "
            "versions-v1alpha1-example weights-are-relative weights-large",
        ),
    ),
    Mutant(
        "rest-of-100-to-root",
        "takes weights for per cent: what is left of 100 goes to the root",
        (
            Edit(
                _SPLITS,
                "    return Split(str(split.name), split.matches, backends, split.fallback_root)\n",
                "    rest = 100 - sum(backend.weight for backend in backends)\n"
                "    if 0 < rest < 100:\n"
                "        own = destination_key(split.root, port.port, port.transport)\n"
                "        backends = (*backends, Backend(str(split.root), rest, own))\n"
                "    return Split(str(split.name), split.matches, backends, split.fallback_root)\n",
            ),
        ),
        kills=cases_of(
            "split",
            "lifecycle-delete lifecycle-other-root lifecycle-recreate "
            "lifecycle-rollout names-and-host-header names-of-root-in-split "
            "weights-single-backend zero-missing-backend zero-no-ready-backend "
            "zero-then-weight",
        ),
    ),
    Mutant(
        "weights-in-31-bits",
        "keeps weights in 31 bits",
        (
            Edit(
                _SPLITS,
                _BACKEND,
                "Backend(str(name), weight % 2**30, destination_key(name, port.port, port.transport))",
            ),
        ),
        kills=cases_of("split", "weights-large"),
    ),
    Mutant(
        "one-choice-per-connection",
        "chooses a backend once per connection, for all requests on it",
        (
            Edit(
                "dataplane.serve.outbound",
                '    __slots__ = ("_outbound", "_to")\n',
                '    __slots__ = ("_chosen", "_outbound", "_to")\n',
            ),
            Edit(
                "dataplane.serve.outbound",
                "        return self._outbound.route(head, self._to)\n",
                '        chosen = getattr(self, "_chosen", None)\n'
                "        if not isinstance(chosen, Way):\n"
                "            chosen = self._chosen = self._outbound.route(head, self._to)\n"
                "        return chosen\n",
            ),
        ),
        kills=cases_of(
            "split",
            "grpc-weights http2-matches http2-weights smooth-three-backends "
            "smooth-two-backends smooth-under-churn smooth-uneven-backends "
            "weights-are-relative weights-example weights-half weights-large "
            "weights-of-each-client weights-of-several-roots "
            "weights-on-one-connection weights-three-backends",
        ),
    ),
)

ZERO: Final = (
    Mutant(
        "zero-to-root",
        "falls back to the root Service when no backend can take a request",
        (
            Edit(
                _SPLITS,
                "return Split(str(split.name), split.matches, backends, split.fallback_root)",
                "return Split(str(split.name), split.matches, backends, True)",
            ),
        ),
        kills=cases_of(
            "split",
            "several-no-second-chance zero-all zero-all-ports-mismatch "
            "zero-no-backend-exists zero-no-ready-backend zero-of-filtered zero-tcp",
        ),
    ),
    Mutant(
        "fallback-ignored",
        "does not read the fall-back annotation",
        (Edit(_LOWER, 'return value == "root"\n', "return False\n"),),
        kills=cases_of("split", "fallback-none-ready fallback-weights-zero"),
    ),
    Mutant(
        "unready-backends-chosen",
        "chooses backends without looking whether they have a ready endpoint",
        (Edit(_PICK, " if backend.weight > 0 and ready(backend.cluster))", " if backend.weight > 0)"),),
        kills=cases_of("split", "fallback-none-ready zero-unready-backend"),
    ),
    Mutant(
        "missing-backend-voids-split",
        "leaves out a split of which one backend is missing, or lacks the port",
        (
            Edit(
                _SPLITS,
                _ON_PORT,
                "splits = tuple(\n"
                "                _on_port(split, port, world)\n"
                "                for split in effective.get(name, ())\n"
                "                if all(_exposes(world.services.get(other), port) for other, _ in split.backends)\n"
                "            )",
            ),
        ),
        kills=cases_of(
            "split",
            "lifecycle-rollout ports-by-protocol ports-mended ports-mismatch "
            "ports-one-by-one zero-all-ports-mismatch zero-missing-backend "
            "zero-no-backend-exists",
        ),
    ),
)

PROTOCOLS: Final = (
    Mutant(
        "http-only",
        "splits HTTP requests only",
        (
            Edit(
                _PICK, "    return table._rest\n", "    return table._rest if request is not None else ROOT\n"
            ),
        ),
        kills=cases_of(
            "split",
            "tcp-change tcp-connection-stays tcp-server-speaks-first tcp-weights "
            "udp-flow-stays udp-weights zero-tcp",
        ),
    ),
    Mutant(
        "udp-not-split",
        "splits no UDP flows",
        (Edit(_SPLITS, _ON_PORT, _ON_PORT[:-1] + ' if port.transport != "UDP")'),),
        kills=cases_of("split", "udp-flow-stays udp-weights"),
    ),
    Mutant(
        "choice-per-datagram",
        "chooses a backend for each datagram",
        (Edit("dataplane.core.flows", "return self._flows.get(key)\n", "return None\n"),),
        kills=cases_of("split", "udp-flow-stays"),
    ),
    Mutant(
        "choice-per-segment",
        "ends a TCP connection after the first bytes that the server sent",
        (
            Edit(
                "dataplane.serve.tunnel",
                "            onward.write(data)\n\n    def eof_received",
                "            onward.write(data)\n"
                "            if self is self._tunnel.server:\n"
                "                onward.close()\n\n    def eof_received",
            ),
        ),
        kills=cases_of("split", "tcp-connection-stays tcp-server-speaks-first"),
    ),
    Mutant(
        "waits-for-the-client",
        "connects the server only when the client has sent something",
        (
            Edit("dataplane.serve.limits", "head_start: float = 0.02\n", "head_start: float = 600.0\n"),
            Edit(
                "dataplane.core.inbound",
                "    return False if protocol in _OPAQUE else None\n",
                "    return None\n",
            ),
            Edit("dataplane.serve.limits", "sniff: float = 0.1\n", "sniff: float = 600.0\n"),
        ),
        kills=(
            *cases_of("split", "tcp-server-speaks-first"),
            *cases_of("access", "tcp-greeting-is-not-heard"),
        ),
    ),
)

PORTS: Final = (
    Mutant(
        "ports-by-name",
        "pairs the ports of root and backends by their names",
        (
            Edit(
                _SPLITS,
                _EXPOSES,
                "return service is not None and any(\n"
                "        (own.name, own.transport) == (port.name, port.transport) for own in service.ports\n"
                "    )\n",
            ),
            Edit(
                _SPLITS,
                _BACKEND,
                "Backend(\n"
                "            str(name),\n"
                "            weight,\n"
                "            destination_key(\n"
                "                name,\n"
                "                next(o.port for o in world.services[name].ports if o.name == port.name),\n"
                "                port.transport,\n"
                "            ),\n"
                "        )",
            ),
        ),
        kills=cases_of(
            "split",
            "ports-by-number ports-mended ports-mismatch status-missing-backend "
            "status-port-condition zero-missing-backend zero-unready-backend",
        ),
    ),
    Mutant(
        "target-port-ignored",
        "calls endpoints on the Service's port, whatever its targetPort",
        (
            Edit(
                "controller.compile.endpoints",
                "                    yield address, known, number\n",
                "                    yield address, known, known.port\n",
            ),
        ),
        kills=(
            *cases_of("split", "ports-one-by-one ports-root-target-port ports-several ports-target-port"),
            *cases_of("access", "destination-is-account destination-port-of-pod"),
            *cases_of("specs", "tcp-route-port-of-pod"),
        ),
    ),
    Mutant(
        "one-port-only",
        "splits the lowest TCP port of a root only",
        (
            Edit(
                _SPLITS,
                _ON_PORT,
                _ON_PORT[:-1] + "\n"
                "                if port.port == min(p.port for p in service.ports if p.transport == port.transport)\n"
                "            )",
            ),
        ),
        kills=cases_of(
            "split",
            "ports-one-by-one ports-several tcp-change tcp-connection-stays "
            "tcp-server-speaks-first tcp-weights zero-tcp",
        ),
    ),
    Mutant(
        "transports-mixed",
        "takes a UDP port of a backend for the TCP port of the same number",
        (
            Edit(
                _SPLITS,
                _EXPOSES,
                "return service is not None and any(own.port == port.port for own in service.ports)\n",
            ),
            Edit(
                _SPLITS,
                _BACKEND,
                "Backend(\n"
                "            str(name),\n"
                "            weight,\n"
                "            destination_key(\n"
                "                name, port.port, port.transport if port_of(world.services[name], port.port, port.transport) else "
                '"UDP"\n'
                "            ),\n"
                "        )",
            ),
        ),
        kills=cases_of("split", "ports-by-protocol"),
    ),
    Mutant(
        "ports-not-looked-at-again",
        "keeps what it first saw of a Service's ports",
        (
            Edit(
                _SPLITS,
                "@dataclass(frozen=True, slots=True)\nclass Routing:",
                "_SEEN: dict[tuple[NamespacedName, object], bool] = {}\n\n\n"
                "@dataclass(frozen=True, slots=True)\nclass Routing:",
            ),
            Edit(
                _SPLITS,
                _EXPOSES,
                "if service is None:\n"
                "        return False\n"
                "    exposed = port_of(service, port.port, port.transport) is not None\n"
                "    key = (service.name, port.port, port.transport, service.addresses)\n"
                "    return _SEEN.setdefault(key, exposed)\n",
            ),
        ),
        kills=cases_of("split", "ports-mended status-port-condition"),
    ),
)

ROOTS: Final = (
    Mutant(
        "by-host-header",
        "takes the Host header for where a request is to go",
        (
            Edit(
                "dataplane.serve.outbound",
                "        return self._outbound.route(head, self._to)\n",
                "        return self._outbound.route(head, parse_authority(head.host))\n",
            ),
        ),
        kills=cases_of("split", "names-and-host-header"),
    ),
    Mutant(
        "short-names-only",
        "knows Services in TrafficSplits by their short names only",
        (
            Edit(
                _LOWER,
                '    if labels[2:] not in ([], ["svc"], ["svc", *cluster_domain.lower().split(".")]):\n',
                "    if labels[1:]:\n",
            ),
        ),
        kills=cases_of("split", "names-of-backends-in-split names-of-root-in-split"),
    ),
    Mutant(
        "foreign-backends",
        "accepts Services of other namespaces as backends",
        (Edit(_LOWER, "    elif name.namespace != namespace:\n", "    elif not name.namespace:\n"),),
        kills=cases_of("split", "names-of-another-namespace"),
    ),
    Mutant(
        "backends-are-split-too",
        "applies a split to calls of its backends as well",
        (
            Edit(
                _SPLITS,
                _ON_PORT,
                "splits = tuple(\n"
                "                _on_port(split, port, world)\n"
                "                for split in effective.get(name)\n"
                "                or [s for found in effective.values() for s in found if name in dict(s.backends)]\n"
                "            )",
            ),
        ),
        kills=cases_of("split", "lifecycle-rollout selectors-direct-calls weights-of-each-client"),
    ),
    Mutant(
        "injects-everywhere",
        "gives pods that opted out a sidecar, too",
        (
            Edit(
                "controller.admission.inject",
                '    if labels.get(INJECT_LABEL) == "disabled":\n',
                '    if labels.get(INJECT_LABEL) == "never":\n',
            ),
            Edit(  # the port by which the suite gives its orders
                "controller.admission.inject",
                "exclude_inbound = _ports(pod, EXCLUDE_INBOUND_ANNOTATION)\n",
                'exclude_inbound = _ports(pod, EXCLUDE_INBOUND_ANNOTATION) or "9000"\n',
            ),
            Edit(
                "controller.manifests",
                '_chosen(INJECT_LABEL, "NotIn", ["disabled"])',
                '_chosen(INJECT_LABEL, "NotIn", ["never"])',
            ),
        ),
        kills=(
            *cases_of("split", "selectors-outside-callers"),
            *cases_of("access", "plaintext-has-no-identity plaintext-permissive"),
        ),
    ),
    Mutant(
        "splits-in-splits",
        "sends the share of a backend that is a root itself where its own split says",
        (
            Edit(
                _SPLITS,
                _ON_PORT,
                "splits = tuple(_on_port(_flat(split, effective), port, world) for split in effective.get(name, ()))",
            ),
            Edit(
                _SPLITS,
                "def _by_root(\n",
                "def _flat(split, effective):\n"
                "    inner = {\n"
                "        name: next((s.backends[0][0] for s in effective.get(name, ()) if name != split.root), name)\n"
                "        for name, _ in split.backends\n"
                "    }\n"
                "    backends = tuple((inner[name], weight) for name, weight in split.backends)\n"
                '    return __import__("dataclasses").replace(split, backends=backends)\n\n\n'
                "def _by_root(\n",
            ),
        ),
        kills=cases_of("split", "root-of-another-split roots-in-a-circle"),
    ),
)

MATCHES: Final = (
    Mutant(
        "filtered-splits-ignored",
        "ignores splits with matches",
        (
            Edit(
                _PICK,
                "            ranked += ((match, via) for match in compile_matches(split.matches, quarantined))\n",
                "            pass\n",
            ),
        ),
        kills=cases_of(
            "split",
            "http2-matches matches-at-group-top matches-change-of-group "
            "matches-example matches-groups-merge matches-header "
            "matches-headers-as-list matches-missing-group matches-not-met-by-tcp "
            "matches-one-group-missing matches-path matches-removed matches-weights "
            "several-filtered-before-all several-longer-path-first "
            "several-more-headers-first versions-old-client versions-v1alpha3",
        ),
    ),
    Mutant(
        "filters-ignored",
        "takes splits with matches for splits of all traffic",
        (
            Edit(
                _PICK,
                "        if split.matches is None:\n",
                "        if split.matches is None or split.matches:\n",
            ),
        ),
        kills=cases_of(
            "split",
            "http2-matches matches-at-group-top matches-change-of-group "
            "matches-example matches-groups-merge matches-header "
            "matches-headers-as-list matches-not-met-by-tcp "
            "matches-one-group-missing matches-path matches-removed matches-weights "
            "several-filtered-before-all several-longer-path-first "
            "several-more-headers-first versions-old-client versions-v1alpha3 "
            "zero-of-filtered",
        ),
    ),
    Mutant(
        "filters-take-tcp",
        "applies filtered splits to connections that are not HTTP",
        (
            Edit(
                _PICK,
                "    if request is not None:\n"
                "        for match, via in table._ranked:\n"
                "            if match.matches(request):\n"
                "                return via\n",
                "    for match, via in table._ranked:\n"
                "        if request is None or match.matches(request):\n"
                "            return via\n",
            ),
        ),
        kills=cases_of("split", "matches-not-met-by-tcp"),
    ),
    Mutant(
        "filters-unranked",
        "asks filtered splits in the order in which they were created",
        (
            Edit(
                _PICK,
                "    ranked.sort(key=lambda item: (-item[0].filters, -item[0].literal, item[1].index))\n",
                "    ranked.sort(key=lambda item: item[1].index)\n",
            ),
        ),
        kills=cases_of("split", "several-longer-path-first several-more-headers-first"),
    ),
    Mutant(
        "catch-all-first",
        "asks the split of all traffic before the filtered ones",
        (
            Edit(
                _PICK,
                "    if request is not None:\n",
                "    if request is not None and table._rest is ROOT:\n",
            ),
        ),
        kills=cases_of("split", "several-filtered-before-all"),
    ),
    Mutant(
        "youngest-split-counts",
        "lets the youngest of several splits of a root count",
        (Edit(_SPLITS, "sorted(candidates, key=_age)", "sorted(candidates, key=_age, reverse=True)"),),
        kills=cases_of("split", "several-no-second-chance several-oldest-counts"),
    ),
    Mutant(
        "first-group-only",
        "reads the first of several HTTPRouteGroups of a split",
        (Edit(_LOWER, "            matches += found\n", "            matches = matches or list(found)\n"),),
        kills=cases_of("split", "matches-groups-merge"),
    ),
    Mutant(
        "missing-group-voids-filter",
        "matches nothing if one of several HTTPRouteGroups of a split is missing",
        (
            Edit(
                _LOWER,
                '            notes.warn(Reason.ROUTE_NOT_FOUND, f"{where}.name", message)\n        else:\n',
                '            notes.warn(Reason.ROUTE_NOT_FOUND, f"{where}.name", message)\n'
                "            return ()\n"
                "        else:\n",
            ),
        ),
        kills=cases_of("split", "matches-one-group-missing"),
    ),
    Mutant(
        "missing-group-matches-all",
        "takes a split whose HTTPRouteGroup is missing for a split of all traffic",
        (
            Edit(
                _LOWER,
                "else _split_matches(split, split.matches, route_groups, notes)\n",
                "else (_split_matches(split, split.matches, route_groups, notes) or None)\n",
            ),
        ),
        kills=cases_of("split", "matches-missing-group"),
    ),
)

LIFETIME: Final = (
    Mutant(
        "weights-never-change",
        "keeps the weights it first saw, as long as the backends are the same",
        (
            Edit(
                _STATE,
                "before.split.backends == split.backends:\n",
                "[b.cluster for b in before.split.backends] == [b.cluster for b in split.backends]:\n",
            ),
        ),
        kills=cases_of(
            "split",
            "lifecycle-rollout lifecycle-weight-change "
            "lifecycle-weight-change-under-load status-programmed tcp-change "
            "versions-change-through-another zero-then-weight",
        ),
    ),
    Mutant(
        "root-never-changes",
        "keeps the root that a split was created with",
        (
            Edit(
                _SPLITS,
                "            found[lowered.root].append(lowered)\n",
                "            root = _ROOTS.setdefault(split.uid, lowered.root)\n"
                '            found[root].append(__import__("dataclasses").replace(lowered, root=root))\n',
            ),
            Edit(
                _SPLITS,
                "@dataclass(frozen=True, slots=True)\nclass Routing:",
                "_ROOTS: dict[str, NamespacedName] = {}\n\n\n"
                "@dataclass(frozen=True, slots=True)\nclass Routing:",
            ),
        ),
        kills=cases_of("split", "lifecycle-other-root"),
    ),
    Mutant(
        "filter-never-goes",
        "keeps the matches of a split that has none any more",
        (
            Edit(
                _LOWER,
                "    matches = None if split.matches is None else _split_matches(",
                "    written = split.matches or _WRITTEN.get(split.uid)\n"
                "    _WRITTEN[split.uid] = written\n"
                '    split = __import__("dataclasses").replace(split, matches=written)\n'
                "    matches = None if split.matches is None else _split_matches(",
            ),
            Edit(
                _LOWER,
                "@dataclass(frozen=True, slots=True)\nclass LoweredSplit:",
                "_WRITTEN: dict[str, object] = {}\n\n\n@dataclass(frozen=True, slots=True)\nclass LoweredSplit:",
            ),
        ),
        kills=cases_of("split", "matches-removed"),
    ),
    Mutant(
        "split-deletes-dropped",
        "notices that a TrafficSplit is gone only when another one of its namespace is created",
        (
            Edit(
                "controller.watch.index",
                "        readings = (one.reading for kind in self.indexes for one in self._objects(kind))\n",
                "        readings = _with_the_dead([one.reading for kind in self.indexes for one in self._objects(kind)])\n",
            ),
            Edit(
                "controller.watch.index",
                "def ghosts(",
                "_LAST: dict[object, Reading] = {}\n\n\n"
                "def _with_the_dead(readings):\n"
                '    splits = {one.ref: one for one in readings if one.ref.kind == "TrafficSplit"}\n'
                "    for ref in list(_LAST):\n"
                "        created = any(\n"
                "            r.namespace == ref.namespace and r not in _LAST for r in splits\n"
                "        ) or any(\n"
                "            r.namespace == ref.namespace and _LAST[r].uid != one.uid for r, one in splits.items() if r in _LAST\n"
                "        )\n"
                "        if created and ref not in splits:\n"
                "            del _LAST[ref]\n"
                "    _LAST.update(splits)\n"
                "    return [*readings, *(one for ref, one in _LAST.items() if ref not in splits)]\n\n\n"
                "def ghosts(",
            ),
        ),
        kills=cases_of(
            "split",
            "lifecycle-delete lifecycle-rollout names-of-root-in-split "
            "selectors-headless several-no-second-chance several-oldest-counts "
            "status-conflict versions-delete-through-another",
        ),
    ),
)

MUTANTS: Final = (*WEIGHTS, *ZERO, *PROTOCOLS, *PORTS, *ROOTS, *MATCHES, *LIFETIME)
