"""Mutants of route matching: paths, methods, headers, ports."""

# ruff: noqa: E501 - lines of our source, and their mutations, are quoted as they are

from __future__ import annotations

from typing import Final

from tests.conformance.mutants.mutation import Edit, Mutant, cases_of

_MATCH: Final = "smi.policy.match"
_REGEX: Final = "smi.policy.regex"
_PATH: Final = "smi.policy.path"
_LOWER: Final = "smi.lower"
_PATH_TEST: Final = "path=None if match.path is None else path_test(match.path, whole),"

PATHS: Final = (
    Mutant(
        "paths-ignored",
        "does not look at pathRegex",
        (Edit(_MATCH, _PATH_TEST, "path=None,"),),
        kills=(
            *cases_of("access", "example-l7 matches-omitted matches-several path-specific"),
            *cases_of(
                "specs",
                "group-enumerates headers-with-path-and-methods matches-are-not-crossed "
                "path-from-the-start path-is-a-regex path-of-letters path-to-no-end "
                "path-whole path-without-query",
            ),
        ),
    ),
    Mutant(
        "paths-match-whole",
        "wants a pathRegex to match the whole path",
        (Edit(_MATCH, "whole = match.regex is Regex.FULL", "whole = True"),),
        kills=(
            *cases_of("access", "example-l7"),
            *cases_of("specs", "path-is-a-regex path-to-no-end path-whole"),
        ),
    ),
    Mutant(
        "paths-searched",
        "finds a pathRegex anywhere in the path",
        (Edit(_MATCH, _PATH_TEST, "path=None if match.path is None else value_test(match.path),"),),
        kills=cases_of("specs", "path-from-the-start path-whole"),
    ),
    Mutant(
        "paths-literal",
        "takes a pathRegex for the literal beginning of a path",
        (
            Edit(
                _MATCH,
                _PATH_TEST,
                "path=None if match.path is None else\n"
                "        (lambda path, begins=match.path.encode(): path.startswith(begins)),",
            ),
        ),
        kills=(
            *cases_of("access", "grpc-denial-status grpc-method"),
            *cases_of(
                "specs",
                "path-everything path-from-the-start path-is-a-regex path-to-no-end "
                "path-whole path-without-query",
            ),
        ),
    ),
    Mutant(
        "paths-with-query",
        "matches a pathRegex against path and query",
        (
            Edit(
                _MATCH,
                "        if self._path is not None and not self._path(request.path):\n            return False\n",
                '        target = getattr(request, "target", request.path)\n'
                "        if self._path is not None and not self._path(target):\n            return False\n",
            ),
            Edit(_MATCH, "whole = match.regex is Regex.FULL", 'whole = (match.path or "").endswith("$")'),
        ),
        kills=cases_of("specs", "path-whole path-without-query"),
    ),
    Mutant(
        "dot-segments-kept",
        "does not resolve dot segments",
        (Edit(_PATH, '    if b"/." not in path:\n', '    if b"/" in path:\n'),),
        kills=cases_of("specs", "path-dot-segments path-percent-encoding path-repeated-slashes"),
    ),
    Mutant(
        "slashes-kept",
        "does not merge repeated slashes",
        (
            Edit(
                _PATH,
                '    return _SLASHES.sub(b"/", _remove_dot_segments(path))\n',
                "    return _remove_dot_segments(path)\n",
            ),
        ),
        kills=cases_of("specs", "path-repeated-slashes"),
    ),
    Mutant(
        "escapes-kept",
        "does not decode percent-encoded letters",
        (
            Edit(
                _PATH,
                "    return bytes((value,)) if value in _UNRESERVED else escape[0]\n",
                "    return escape[0]\n",
            ),
        ),
        kills=cases_of("specs", "path-percent-encoding"),
    ),
    Mutant(
        "slashes-decoded",
        "decodes encoded slashes",
        (
            Edit(
                _PATH,
                "    return bytes((value,)) if value in _UNRESERVED else escape[0]\n",
                "    return bytes((value,)) if value in _UNRESERVED or value == 0x2F else escape[0]\n",
            ),
        ),
        kills=cases_of("specs", "path-encoded-slash"),
    ),
    Mutant(
        "unsafe-paths-passed",
        "passes paths on that have no safe form",
        (
            Edit(
                _PATH,
                "        if _BAD_PERCENT.search(path):\n",
                "        if _BAD_PERCENT.search(path) and not path:\n",
            ),
        ),
        kills=cases_of("specs", "path-without-safe-form"),
    ),
    Mutant(
        "backtracking-patterns",
        "matches patterns with an engine that tries one way after the other",
        (
            Edit(  # on the first letters only: more of them would take for ever, and the suite no end
                _REGEX,
                "    def test(value: bytes) -> bool:\n",
                '    slow = __import__("re").compile(regex.pattern.encode()) if "+)+" in regex.pattern else None\n\n'
                "    def test(value: bytes) -> bool:\n"
                "        if slow is not None:\n"
                "            slow.match(value[:25])\n",
            ),
        ),
        kills=cases_of("specs", "slow-pattern"),
    ),
)

METHODS: Final = (
    Mutant(
        "methods-ignored",
        "does not look at methods",
        (
            Edit(
                _MATCH,
                "methods=frozenset(method.encode() for method in match.methods) or None,",
                "methods=None,",
            ),
        ),
        kills=(
            *cases_of("access", "example-l7 matches-omitted path-specific"),
            *cases_of(
                "specs",
                "group-enumerates headers-with-path-and-methods matches-are-not-crossed "
                "methods-in-small-letters methods-listed routes-v1alpha1 "
                "routes-v1alpha2 routes-v1alpha3",
            ),
        ),
    ),
    Mutant(
        "star-is-a-method",
        "takes * for the name of a method",
        (Edit(_LOWER, '    if "*" in methods:\n', '    if methods == ("**",):\n'),),
        kills=cases_of("specs", "methods-any path-everything"),
    ),
    Mutant(
        "methods-as-written",
        "does not read small letters in methods as capitals",
        (
            Edit(
                _LOWER,
                "    return frozenset(method.upper() for method in methods)\n",
                "    return frozenset(methods)\n",
            ),
        ),
        kills=cases_of("specs", "methods-in-small-letters"),
    ),
    Mutant(
        "no-methods-is-get",
        "reads a match without methods as one for GET",
        (
            Edit(
                _MATCH,
                "methods=frozenset(method.encode() for method in match.methods) or None,",
                "methods=frozenset(method.encode() for method in match.methods or ('GET',)),",
            ),
            Edit(
                _LOWER,
                "        return frozenset()\n    for method in methods:\n",
                '        return frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))\n    for method in methods:\n',
            ),
        ),
        kills=cases_of("specs", "headers-alone methods-omitted"),
    ),
)

HEADERS: Final = (
    Mutant(
        "headers-ignored",
        "does not look at header filters",
        (
            Edit(
                _MATCH,
                "headers=tuple((name.encode(), value_test(pattern)) for name, pattern in match.headers),",
                "headers=(),",
            ),
        ),
        kills=(
            *cases_of(
                "split",
                "matches-at-group-top matches-change-of-group matches-example "
                "matches-groups-merge matches-header matches-headers-as-list "
                "matches-one-group-missing matches-removed matches-weights",
            ),
            *cases_of(
                "specs",
                "group-keeps-its-headers header-absent header-host "
                "header-name-without-case header-of-several-lines "
                "header-value-is-searched headers-all-of-a-match headers-alone "
                "headers-as-list headers-of-any-match headers-with-path-and-methods "
                "matches-at-top-level routes-v1alpha2 routes-v1alpha3",
            ),
        ),
    ),
    Mutant(
        "absent-header-matches",
        "lets a header that is not there meet any filter",
        (
            Edit(
                _MATCH,
                "            if value is None or (test is not None and not test(value)):\n",
                "            if value is not None and (test is not None and not test(value)):\n",
            ),
        ),
        kills=cases_of(
            "specs",
            "header-absent header-value-is-searched headers-all-of-a-match "
            "headers-alone headers-as-list headers-of-any-match",
        ),
    ),
    Mutant(
        "header-values-from-the-start",
        "matches header filters at the start of the value",
        (
            Edit(
                _REGEX,
                '        return methodcaller("startswith" if shape.anchored else "__contains__", literal)\n',
                '        return methodcaller("startswith", literal)\n',
            ),
            Edit(
                _REGEX,
                "    return _runner(regex, Anchor.NONE)\n",
                "    return _runner(regex, Anchor.START)\n",
            ),
        ),
        kills=(
            *cases_of("split", "matches-example"),
            *cases_of("specs", "header-value-is-searched headers-all-of-a-match"),
        ),
    ),
    Mutant(
        "header-lists-emptied",
        "reads only header filters that are written as a map",
        (
            Edit(
                "smi.api.model",
                "    maps = value if isinstance(value, list) else [value]\n",
                "    maps = [] if isinstance(value, list) else [value]\n",
            ),
        ),
        kills=(
            *cases_of("split", "matches-headers-as-list"),
            *cases_of("specs", "headers-as-list"),
        ),
    ),
)

PORT_ROUTES: Final = (
    Mutant(
        "port-routes-open-all",
        "reads TCPRoutes and UDPRoutes as ones for all ports",
        (
            Edit(
                _LOWER,
                "    return PortSet(every=not ports, ports=frozenset(ports))\n",
                "    return PortSet(every=True, ports=frozenset(ports))\n",
            ),
        ),
        kills=(
            *cases_of("access", "example-l4 tcp-and-http-rules-both-hold tcp-route-opens-port"),
            *cases_of("specs", "route-keeps-its-ports tcp-route-port-of-pod tcp-route-ports udp-route-ports"),
        ),
    ),
    Mutant(
        "no-ports-is-none",
        "reads a route without ports as one for no port",
        (
            Edit(
                _LOWER,
                "    return PortSet(every=not ports, ports=frozenset(ports))\n",
                "    return PortSet(every=False, ports=frozenset(ports))\n",
            ),
        ),
        kills=cases_of(
            "specs",
            "routes-v1alpha1 routes-v1alpha2 routes-v1alpha3 tcp-route-without-ports udp-route-without-ports",
        ),
    ),
)

TOP_LEVEL: Final = (
    Mutant(
        "top-level-matches-ignored",
        "does not read matches at top level of a newer HTTPRouteGroup",
        (Edit("smi.api.parse", "    top = model.matches or []\n", "    top = []\n"),),
        kills=(
            *cases_of("split", "matches-at-group-top"),
            *cases_of("specs", "matches-at-top-level"),
        ),
    ),
)

MUTANTS: Final = (*PATHS, *METHODS, *HEADERS, *PORT_ROUTES, *TOP_LEVEL)
