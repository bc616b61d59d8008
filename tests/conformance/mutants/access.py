"""Mutants of traffic access: who is let in, what is refused, and how."""

# ruff: noqa: E501 - lines of our source, and their mutations, are quoted as they are

from __future__ import annotations

from typing import Final

from tests.conformance.mutants import deletes
from tests.conformance.mutants.mutation import Edit, Mutant, cases_of

_ACCESS: Final = "smi.policy.access"
_LOWER: Final = "smi.lower"
_RULES: Final = "controller.compile.access"
_ENFORCE: Final = "controller.compile.enforcement"
_PARSE: Final = "smi.api.parse"
_LOWERED: Final = "target.destination, sources, target.port, tcp, udp, http)"

DECISIONS: Final = (
    Mutant(
        "http-always-allowed",
        "lets every HTTP request with an identity in",
        (
            Edit(
                _ACCESS,
                "    misses = (_http_miss(grant, port, request) for grant in grants)\n",
                "    if table.inbound:\n"
                "        return _SAME_SERVICE_ACCOUNT\n"
                "    misses = (_http_miss(grant, port, request) for grant in grants)\n",
            ),
        ),
        kills=cases_of(
            "access",
            "denial-says-why denied-http-is-403 deny-by-default "
            "destination-is-account destination-namespace-empty enforced-at-the-pod "
            "example-l7 identity-is-not-claimed matches-omitted matches-several "
            "missing-half-does-not-widen missing-port-route-does-not-widen "
            "missing-route missing-route-beside-known own-account-is-no-exception "
            "path-specific routes-of-another-namespace rules-of-one-kind-add-up "
            "same-account-name-elsewhere source-namespace-empty "
            "target-in-wrong-namespace targets-add-up targets-are-not-crossed "
            "tcp-and-http-rules-both-hold udp-rule-narrows-nothing unknown-match "
            "unknown-match-beside-known",
        ),
    ),
    Mutant(
        "tcp-always-allowed",
        "lets every TCP connection with an identity in, whatever TrafficTargets say",
        (
            Edit(
                _ACCESS,
                "    misses = (_tcp_miss(grant, port) for grant in grants)\n",
                "    if table.inbound:\n"
                "        return _SAME_SERVICE_ACCOUNT\n"
                "    misses = (_tcp_miss(grant, port) for grant in grants)\n",
            ),
        ),
        kills=(
            *cases_of(
                "access",
                "denied-tcp-is-reset deny-by-default enforced-at-the-pod "
                "http-rule-is-not-tcp no-rules tcp-and-http-rules-both-hold "
                "tcp-greeting-is-not-heard tcp-route-opens-port tcp-rule-opens-http "
                "udp-route-is-not-tcp udp-rule-narrows-nothing",
            ),
            *cases_of("specs", "bad-ports tcp-route-port-of-pod tcp-route-ports tcp-route-without-ports"),
        ),
    ),
    Mutant(
        "udp-always-allowed",
        "lets every UDP flow with an identity in",
        (
            Edit(
                _ACCESS,
                "        if grant.l4(grant.grant.udp, port):\n            return grant.permit\n",
                "        if grant.l4(grant.grant.udp, port):\n            return grant.permit\n"
                "    if table.inbound:\n        return _SAME_SERVICE_ACCOUNT\n",
            ),
        ),
        kills=(
            *cases_of("access", "deny-udp-by-default example-l4"),
            *cases_of("specs", "udp-route-ports udp-route-without-ports"),
        ),
    ),
    Mutant(
        "udp-never-allowed",
        "lets no UDP flow in",
        (
            Edit(
                _ACCESS,
                "        if grant.l4(grant.grant.udp, port):\n            return grant.permit\n",
                "        if grant.l4(None, port):\n            return grant.permit\n",
            ),
        ),
        kills=(
            *cases_of("access", "deny-udp-by-default example-l4"),
            *cases_of("specs", "udp-route-ports udp-route-without-ports"),
        ),
    ),
    Mutant(
        "tcp-ports-ignored-for-http",
        "lets HTTP in on ports that the TCPRoute does not list",
        (Edit(_ACCESS, "            return port in grant.tcp\n", "            return True\n"),),
        kills=(
            *cases_of(
                "access",
                "missing-port-route-does-not-widen tcp-and-http-rules-both-hold tcp-route-opens-port",
            ),
            *cases_of("specs", "tcp-route-ports"),
        ),
    ),
    Mutant(
        "destination-port-ignored",
        "does not read destination.port of v1alpha1 and v1alpha2",
        (Edit(_LOWER, _LOWERED, "target.destination, sources, None, tcp, udp, http)"),),
        kills=cases_of("access", "destination-port destination-port-of-pod target-keeps-its-port"),
    ),
    Mutant(
        "http-rules-admit-tcp",
        "lets a TCP connection in where only HTTP requests are allowed",
        (
            Edit(
                _ACCESS,
                "        if grant.http is None and grant.l4(grant.grant.tcp, port):\n",
                "        if grant.http is not None or grant.l4(grant.grant.tcp, port):\n",
            ),
        ),
        kills=cases_of(
            "access",
            "http-rule-is-not-tcp missing-half-does-not-widen "
            "tcp-and-http-rules-both-hold udp-rule-narrows-nothing",
        ),
    ),
    Mutant(
        "wide-target-gives-way",
        "lets a TrafficTarget for all paths give way where three narrower ones name the caller",
        (
            Edit(
                _ACCESS,
                "    grants = table.grants_for(peer)\n"
                "    for grant in grants:\n"
                "        if grant.http_port(port):\n"
                "            permit = grant.http_permit(request)\n",
                "    grants = table.grants_for(peer)\n"
                "    narrow = tuple(\n"
                '        one for one in grants if one.grant.http and all(match.path != ".*" for match in one.grant.http)\n'
                "    )\n"
                "    for grant in narrow if len(narrow) > 2 else grants:\n"
                "        if grant.http_port(port):\n"
                "            permit = grant.http_permit(request)\n",
            ),
        ),
        kills=cases_of("access", "narrow-target-takes-nothing"),
    ),
    Mutant(
        "own-account-allowed",
        "needs no TrafficTarget between workloads of one service account",
        (
            Edit(
                _ACCESS,
                "    return table.inbound.same_service_account and peer.identity",
                "    return peer.identity",
            ),
        ),
        kills=cases_of("access", "own-account-is-no-exception"),
    ),
    Mutant(
        "judged-once-per-connection",
        "judges the first request of a connection, and lets the others follow",
        (
            Edit(
                "dataplane.serve.inbound",
                "        verdict = admit_request(inbound.state.inbound, self._peer, self._port, head)\n",
                "        verdict = _JUDGED.get(self)\n"
                "        if verdict is None:\n"
                "            verdict = admit_request(inbound.state.inbound, self._peer, self._port, head)\n"
                "            if not isinstance(verdict, Denial):\n"
                "                _JUDGED[self] = verdict\n",
            ),
            Edit(
                "dataplane.serve.inbound",
                "class _Gate:\n",
                "_JUDGED: dict[object, Permit] = {}\n\n\nclass _Gate:\n",
            ),
        ),
        kills=cases_of(
            "access",
            "changed-routes changed-sources deleted-routes deleted-target "
            "example-l7 grpc-method http2-requests kept-alive-connection "
            "matches-omitted matches-several path-specific recreated-target",
        ),
    ),
)

IDENTITY: Final = (
    Mutant(
        "namespaces-of-callers-ignored",
        "knows callers by the name of their account, whatever its namespace",
        (
            Edit(
                _ACCESS,
                "        grants = self._by_identity.get(peer.identity, ())\n",
                '        name = peer.identity.rpartition("/")[2]\n'
                "        grants = tuple(\n"
                "            {\n"
                "                id(grant): grant\n"
                "                for identity, found in self._by_identity.items()\n"
                '                if identity.rpartition("/")[2] == name\n'
                "                for grant in found\n"
                "            }.values()\n"
                "        )\n",
            ),
        ),
        kills=cases_of(
            "access",
            "binding-overlapping-schemes binding-schemes-add-up "
            "same-account-name-elsewhere source-namespace-empty",
        ),
    ),
    Mutant(
        "source-namespace-is-default",
        "reads a source without a namespace as one of the namespace default",
        (
            Edit(
                _PARSE,
                'sources=tuple(_subject(source, meta["namespace"]) for',
                'sources=tuple(_subject(source, "default") for',
            ),
        ),
        kills=cases_of("access", "source-namespace-empty"),
    ),
    Mutant(
        "destination-namespace-is-default",
        "reads a destination without a namespace as one of the namespace default",
        (
            Edit(
                _PARSE,
                'destination=_subject(spec.destination, meta["namespace"])',
                'destination=_subject(spec.destination, "default")',
            ),
        ),
        kills=cases_of("access", "destination-namespace-empty"),
    ),
    Mutant(
        "foreign-targets-accepted",
        "lets a TrafficTarget open workloads of another namespace",
        (
            Edit(
                _LOWER,
                "    if destination.namespace != target.namespace:\n",
                "    if not destination.namespace:\n",
            ),
        ),
        kills=cases_of("access", "status-of-wrong-namespace target-in-wrong-namespace"),
    ),
    Mutant(
        "binding-accounts-ignored",
        "does not read the service account of an IdentityBinding",
        (
            Edit(
                _LOWER,
                "    if binding.service_account is not None:\n        identities.add(",
                "    if binding.service_account is None:\n        identities.add(",
            ),
        ),
        kills=cases_of(
            "access",
            "binding-missing binding-of-foreign-identity "
            "binding-overlapping-schemes binding-schemes-add-up "
            "binding-service-account binding-spiffe binding-stays-in-its-namespace",
        ),
    ),
    Mutant(
        "binding-labels-ignored",
        "lets a label selector of an IdentityBinding select no pod",
        (
            Edit(
                _RULES,
                "        return all(labels.get(key) == value for key, value in self.labels)\n",
                "        return False\n",
            ),
        ),
        kills=cases_of(
            "access",
            "binding-overlapping-schemes binding-pod-labels binding-schemes-add-up "
            "binding-stays-in-its-namespace",
        ),
    ),
    Mutant(
        "binding-spiffe-ignored",
        "does not read the SPIFFE ids of an IdentityBinding",
        (Edit(_LOWER, "        if identity is not None:\n", "        if identity is None:\n"),),
        kills=cases_of("access", "binding-of-foreign-identity binding-schemes-add-up binding-spiffe"),
    ),
    Mutant(
        "binding-of-anybody",
        "lets an IdentityBinding claim identities of other namespaces",
        (
            Edit(
                _LOWER,
                '    if trust_domain == own.lower() and (len(segments) != 4 or segments[:3] != ["ns", namespace, "sa"]):\n',
                "    if not segments:\n",
            ),
        ),
        kills=cases_of("access", "binding-of-foreign-identity"),
    ),
    Mutant(
        "binding-selects-everywhere",
        "lets a label selector select pods of every namespace",
        (
            Edit(
                _ENFORCE,
                "            for pod in self._by_namespace.get(selector.namespace, ())\n",
                "            for pods in self._by_namespace.values()\n            for pod in pods\n",
            ),
        ),
        kills=cases_of("access", "binding-stays-in-its-namespace"),
    ),
    Mutant(
        "missing-binding-is-everybody",
        "reads a missing IdentityBinding as all pods of its namespace",
        (
            Edit(
                _RULES,
                "        if binding is not None:\n            identities |=",
                "        if binding is None:\n"
                "            selectors.add(Selector(subject.namespace, ()))\n"
                "        else:\n            identities |=",
            ),
        ),
        kills=cases_of("access", "binding-missing"),
    ),
    Mutant(
        "plain-text-let-in",
        "lets callers without an identity in",
        (Edit(_ACCESS, "    if table.inbound.mtls is Mtls.PERMISSIVE:\n", "    if table.inbound:\n"),),
        kills=cases_of(
            "access",
            "mode-does-not-admit-strangers plaintext-has-no-identity "
            "plaintext-permissive probe-path-is-no-door probes-pass",
        ),
    ),
    Mutant(
        "plain-text-kept-out",
        "keeps plain text out, also where mTLS is permissive",
        (Edit(_ACCESS, "    if table.inbound.mtls is Mtls.PERMISSIVE:\n", "    if not table.inbound:\n"),),
        kills=cases_of("access", "plaintext-permissive"),
    ),
)

REFERENCES: Final = (
    Mutant(
        "unknown-match-is-all",
        "reads an unknown match name as all matches of the group",
        (
            Edit(
                _LOWER,
                "        return (match for match in found if match.name in rule.matches)\n",
                "        if not existing.issuperset(rule.matches):\n"
                "            return found\n"
                "        return (match for match in found if match.name in rule.matches)\n",
            ),
        ),
        kills=cases_of("access", "target-old-references unknown-match unknown-match-beside-known"),
    ),
    Mutant(
        "match-names-ignored",
        "opens all matches of a group, whichever are named",
        (
            Edit(
                _LOWER,
                "        return (match for match in found if match.name in rule.matches)\n",
                "        return found\n",
            ),
        ),
        kills=cases_of(
            "access",
            "example-l7 matches-several path-specific target-old-references "
            "target-v1alpha1 target-v1alpha2 targets-add-up targets-are-not-crossed "
            "unknown-match unknown-match-beside-known",
        ),
    ),
    Mutant(
        "missing-group-opens-all",
        "reads a missing HTTPRouteGroup as one that matches everything",
        (
            Edit(
                _LOWER,
                "            self._missing(rule, where)\n            return ()\n",
                "            self._missing(rule, where)\n"
                '            return (RouteMatch(rule.name, "all", None, frozenset(), ()),)\n',
            ),
        ),
        kills=cases_of(
            "access",
            "deleted-routes missing-half-does-not-widen missing-route "
            "missing-route-beside-known routes-of-another-namespace",
        ),
    ),
    Mutant(
        "unknown-kinds-forgotten",
        "reads a rule of an unknown kind as if it were not there",
        (
            Edit(
                _LOWER,
                '                present = True\n                message = f"rule kind',
                '                message = f"rule kind',
            ),
            Edit(
                "smi.api.crds",
                '"kind": _text("Kind of the route object.", enum=kinds),',
                '"kind": _text("Kind."),',
            ),
        ),
        kills=cases_of("access", "unknown-rule-kind"),
    ),
    Mutant(
        "no-sources-is-everybody",
        "reads a TrafficTarget without sources as one for everybody",
        (
            Edit(
                _LOWER,
                "    if not (allowed and sources and target.rules):\n",
                "    if not (allowed and target.rules):\n",
            ),
            Edit(
                _ACCESS,
                "        for identity in grant.sources:\n",
                '        for identity in grant.sources or ("*",):\n',
            ),
            Edit(
                _ACCESS,
                "        grants = self._by_identity.get(peer.identity, ())\n",
                '        grants = self._by_identity.get(peer.identity, ()) + self._by_identity.get("*", ())\n',
            ),
        ),
        kills=cases_of("access", "no-sources"),
    ),
    Mutant(
        "service-ports-meant",
        "reads the ports of access rules as ports of Services",
        (
            Edit(
                _ENFORCE,
                "        grants=grants,\n        ports=",
                "        grants=tuple(_by_service(grant, endpoints.targets.get(name, ())) for grant in grants),\n        ports=",
            ),
            Edit(
                _ENFORCE,
                "class _Pods:\n",
                "def _by_service(grant, targets):\n"
                '    change = __import__("dataclasses").replace\n'
                "    tcp, port = grant.tcp, grant.port\n"
                "    if tcp is not None and not tcp.every:\n"
                "        ports = {target.port.port for target in targets if target.service_port in tcp.ports}\n"
                "        tcp = change(tcp, ports=frozenset(ports))\n"
                "    if port is not None:\n"
                "        meant = [target.port.port for target in targets if target.service_port == port]\n"
                "        port = meant[0] if meant else 1\n"
                "    return change(grant, tcp=tcp, port=port)\n\n\n"
                "class _Pods:\n",
            ),
        ),
        kills=(
            *cases_of("access", "destination-port-of-pod"),
            *cases_of("specs", "tcp-route-port-of-pod"),
        ),
    ),
)

ANSWERS: Final = (
    Mutant(
        "denied-as-503",
        "answers a refused request 503",
        (
            Edit(
                "dataplane.core.outcome",
                "    return Reply(403, denial.reason,",
                "    return Reply(503, denial.reason,",
            ),
        ),
        kills=cases_of("access", "denied-http-is-403"),
    ),
    Mutant(
        "denials-unexplained",
        "refuses without a reason and an id",
        (
            Edit(
                "dataplane.core.outcome",
                'f"{DENIAL_HEADER}: {denial.reason}; id={denial.id}"',
                'f"x-refused: {denial.reason}"',
            ),
        ),
        kills=cases_of("access", "denial-says-why"),
    ),
    Mutant(
        "grpc-refused-as-unavailable",
        "ends a refused gRPC call with UNAVAILABLE",
        (Edit("dataplane.core.answer", "403: PERMISSION_DENIED", "403: UNAVAILABLE"),),
        kills=cases_of("access", "grpc-denial-status"),
    ),
    Mutant(
        "refused-tcp-hangs",
        "leaves a refused TCP connection open without a word",
        (
            Edit(
                "dataplane.serve.inbound",
                "                tunnel.reason = verdict.reason\n"
                "                tunnel.drop()\n"
                "            reset(transport)\n",
                "                tunnel.reason = verdict.reason\n"
                "                tunnel.drop()\n"
                "            _HANGING.append(transport)\n",
            ),
            Edit(
                "dataplane.serve.inbound",
                "class _Gate:\n",
                "_HANGING: list[object] = []\n\n\nclass _Gate:\n",
            ),
        ),
        kills=cases_of(
            "access",
            "denied-tcp-is-reset tcp-greeting-is-not-heard tcp-route-opens-port udp-route-is-not-tcp",
        ),
    ),
    Mutant(
        "misspelt-mode-is-permissive",
        "takes a mode it does not know for permissive",
        (
            Edit(
                "controller.compile.read",
                "        mode=obj.setting(annotations, MODE_ANNOTATION, Mode, where),\n",
                "        mode=obj.setting(annotations, MODE_ANNOTATION, Mode, where)\n"
                "        or (Mode.PERMISSIVE if annotations.get(MODE_ANNOTATION) else None),\n",
            ),
        ),
        kills=cases_of("access", "mode-misspelt"),
    ),
    Mutant(
        "probe-path-open",
        "lets everybody request the path of a probe",
        (
            Edit(
                _ACCESS,
                "    if peer is None:\n        if (port, request.path) in table.probes",
                "    if (port, request.path) in table.probes:\n"
                "        return _PROBE\n"
                "    if peer is None:\n        if (port, request.path) in table.probes",
            ),
        ),
        kills=cases_of("access", "probe-path-is-no-door"),
    ),
    Mutant(
        "probes-refused",
        "refuses the probes of the kubelet like any stranger",
        (Edit(_ACCESS, "        frozenset(_probes(inbound)),\n", "        frozenset(),\n"),),
        kills=cases_of("access", "probe-path-is-no-door probes-pass"),
    ),
)

LIFETIME: Final = (
    Mutant(
        "matches-only-added",
        "goes on with matches that were taken out of an HTTPRouteGroup",
        (
            Edit(
                "controller.compile.routes",
                "        groups[name], said = lower_route_group(group, _regex(world, name.namespace))\n",
                "        seen = tuple(dict.fromkeys((*_SEEN.get(group.uid, ()), *group.matches)))\n"
                "        _SEEN[group.uid] = seen\n"
                '        group = __import__("dataclasses").replace(group, matches=seen)\n'
                "        groups[name], said = lower_route_group(group, _regex(world, name.namespace))\n",
            ),
            Edit(
                "controller.compile.routes",
                "@dataclass(frozen=True, slots=True)\nclass Routes:",
                "_SEEN: dict[str, tuple[object, ...]] = {}\n\n\n@dataclass(frozen=True, slots=True)\nclass Routes:",
            ),
        ),
        kills=(
            *cases_of("split", "matches-change-of-group"),
            *cases_of("access", "changed-routes"),
        ),
    ),
    Mutant(
        "sources-never-change",
        "keeps the sources that a TrafficTarget was created with",
        (
            Edit(
                _RULES,
                "            sources = _resolve(lowered.sources, bindings, world.trust_domain)\n",
                "            written = _FIRST.setdefault(target.uid, lowered.sources)\n"
                "            sources = _resolve(written, bindings, world.trust_domain)\n",
            ),
            Edit(
                _RULES,
                "@dataclass(frozen=True, slots=True)\nclass Selector:",
                "_FIRST: dict[str, tuple[Subject, ...]] = {}\n\n\n@dataclass(frozen=True, slots=True)\nclass Selector:",
            ),
        ),
        kills=cases_of("access", "changed-sources"),
    ),
    Mutant(
        "recreated-sources-are-old",
        "gives a TrafficTarget that is made anew under its old name its old sources, too",
        (
            Edit(
                _RULES,
                "            sources = _resolve(lowered.sources, bindings, world.trust_domain)\n",
                "            key = (target.namespace, target.name)\n"
                "            _FIRST[key] = tuple(dict.fromkeys((*_FIRST.get(key, ()), *lowered.sources)))\n"
                "            sources = _resolve(_FIRST[key], bindings, world.trust_domain)\n",
            ),
            Edit(
                _RULES,
                "@dataclass(frozen=True, slots=True)\nclass Selector:",
                "_FIRST: dict[tuple[str, str], tuple[Subject, ...]] = {}\n\n\n"
                "@dataclass(frozen=True, slots=True)\nclass Selector:",
            ),
        ),
        kills=cases_of("access", "changed-sources recreated-target"),
        fresh=True,
    ),
    Mutant(
        "route-deletes-dropped",
        "notices that an HTTPRouteGroup is gone only when another one of its namespace is created",
        deletes.dropped("HTTPRouteGroup"),
        kills=(
            *cases_of("split", "matches-missing-group"),
            *cases_of("access", "deleted-routes"),
        ),
    ),
    Mutant(
        "target-deletes-dropped",
        "notices that a TrafficTarget with HTTP rules is gone only when another one is created",
        deletes.dropped(
            "TrafficTarget",
            "one.value and any(rule.kind == 'HTTPRouteGroup' for rule in one.value.rules)",
        ),
        kills=cases_of("access", "deleted-target kept-alive-connection recreated-target targets-add-up"),
    ),
)

MUTANTS: Final = (*DECISIONS, *IDENTITY, *REFERENCES, *ANSWERS, *LIFETIME)
