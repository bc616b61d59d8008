"""Mutants of the TrafficMetrics API."""

# ruff: noqa: E501 - lines of our source, and their mutations, are quoted as they are

from __future__ import annotations

from typing import Final

from tests.conformance.mutants.mutation import Edit, Mutant, cases_of

_AGGREGATE: Final = "controller.metricsapi.aggregate"
_DOCUMENTS: Final = "controller.metricsapi.documents"
_SERVER: Final = "controller.metricsapi.server"

MUTANTS: Final = (
    Mutant(
        "nodes-unlisted",
        "leaves nodes out of the list of resources",
        (
            Edit(
                _DOCUMENTS,
                "            for one in RESOURCES.values():\n",
                "            for one in [one for one in RESOURCES.values() if one.kind != 'Node']:\n",
            ),
        ),
        cases_of("metrics", "api-resource-list"),
    ),
    Mutant(
        "selector-ignored",
        "ignores label selectors",
        (
            Edit(
                _SERVER, "            if query.selector:\n", "            if query.selector and not query:\n"
            ),
        ),
        cases_of("metrics", "metrics-by-label"),
    ),
    Mutant(
        "list-of-nothing",
        "does not say in a list of which kind it is",
        (Edit(_DOCUMENTS, "        kind=query.resource.kind,\n", "        kind=None,\n"),),
        cases_of("metrics", "metrics-list"),
    ),
    Mutant(
        "latency-in-ms",
        "says that latencies are milliseconds",
        (Edit(_AGGREGATE, 'unit="seconds"', 'unit="ms"'),),
        cases_of("metrics", "metrics-of-a-pod"),
    ),
    Mutant(
        "edges-of-one-side",
        "lists edges as the server saw them only",
        (
            Edit(
                _AGGREGATE,
                "        for row in one.rows:\n            others",
                "        for row in one.rows:\n            if row.direction == OUTBOUND:\n                continue\n            others",
            ),
        ),
        cases_of("metrics", "metrics-edges"),
    ),
    Mutant(
        "split-without-weights",
        "tells 0 as the weight of every backend",
        (Edit(_AGGREGATE, "weight=one.weight)", "weight=0)"),),
        cases_of("metrics", "metrics-of-a-split"),
    ),
    Mutant(
        "failures-succeed",
        "counts failures among the successes",
        (
            Edit(
                _AGGREGATE,
                "value=str(tally.success))",
                "value=str(tally.success + tally.failure))",
            ),
        ),
        cases_of("metrics", "metrics-count"),
    ),
    Mutant(
        "nobody-is-idle",
        "answers about objects that do not exist as if they were idle",
        (
            Edit(
                _SERVER,
                "            if error.absent:\n",
                "            if error.absent and query.name:\n                return frozenset()\n            if error.absent:\n",
            ),
        ),
        cases_of("metrics", "metrics-of-nothing"),
    ),
)
