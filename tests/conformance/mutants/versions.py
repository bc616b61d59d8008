"""Mutants of the API's versions: conversion, what is served, and what old clients leave intact."""

# ruff: noqa: E501 - lines of our source, and their mutations, are quoted as they are

from __future__ import annotations

from typing import Final

from tests.conformance.mutants.mutation import Edit, Mutant, cases_of

_CONVERT: Final = "smi.api.convert"
_QUANTITY: Final = "smi.api.quantity"


def _served(group: str, kind: str, *versions: str) -> Edit:
    """Serve only these versions of a kind."""
    return Edit(
        _CONVERT,
        f'    ({group}, "{kind}"): _ALL,\n',
        f'    ({group}, "{kind}"): {versions!r},\n',
    )


MUTANTS: Final = (
    Mutant(
        "split-without-v1alpha3",
        "does not serve TrafficSplit v1alpha3",
        (_served("SPLIT_GROUP", "TrafficSplit", "v1alpha1", "v1alpha2", "v1alpha4"),),
        kills=cases_of(
            "split",
            "versions-change-through-another versions-delete-through-another "
            "versions-read-in-each versions-v1alpha3",
        ),
    ),
    Mutant(
        "target-without-v1alpha1",
        "does not serve TrafficTarget v1alpha1",
        (_served("ACCESS_GROUP", "TrafficTarget", "v1alpha2", "v1alpha3", "v1alpha4"),),
        kills=cases_of(
            "access", "destination-port target-old-references target-read-in-every-version target-v1alpha1"
        ),
    ),
    Mutant(
        "target-without-v1alpha2",
        "does not serve TrafficTarget v1alpha2",
        (_served("ACCESS_GROUP", "TrafficTarget", "v1alpha1", "v1alpha3", "v1alpha4"),),
        kills=cases_of(
            "access",
            "destination-port destination-port-of-pod target-keeps-its-port "
            "target-old-references target-read-in-every-version target-v1alpha2",
        ),
    ),
    Mutant(
        "target-without-v1alpha4",
        "does not serve TrafficTarget v1alpha4",
        (_served("ACCESS_GROUP", "TrafficTarget", "v1alpha1", "v1alpha2", "v1alpha3"),),
        kills=cases_of(
            "access",
            "binding-missing binding-of-foreign-identity "
            "binding-overlapping-schemes binding-pod-labels binding-schemes-add-up "
            "binding-service-account binding-spiffe binding-stays-in-its-namespace "
            "target-v1alpha4-accounts",
        ),
    ),
    Mutant(
        "group-without-v1alpha2",
        "does not serve HTTPRouteGroup v1alpha2",
        (_served("SPECS_GROUP", "HTTPRouteGroup", "v1alpha1", "v1alpha3", "v1alpha4"),),
        kills=cases_of("specs", "group-read-in-every-version routes-v1alpha2"),
    ),
    Mutant(
        "quantities-not-kept",
        "forgets how a quantity was written",
        (
            Edit(
                _CONVERT, '        kept["weights"] = {"whole": whole, "written": written}\n', "        pass\n"
            ),
        ),
        kills=cases_of("split", "versions-quantities-come-back"),
    ),
    Mutant(
        "split-matches-not-kept",
        "loses the matches of a split that an old client writes back",
        (Edit(_CONVERT, '        kept["matches"] = spec.pop("matches")\n', '        spec.pop("matches")\n'),),
        kills=cases_of("split", "versions-old-client"),
    ),
    Mutant(
        "destination-port-not-kept",
        "loses destination.port when a newer client writes a TrafficTarget back",
        (
            Edit(
                _CONVERT,
                '            kept["destinationPort"] = destination.pop("port")\n',
                '            destination.pop("port")\n',
            ),
        ),
        kills=cases_of("access", "destination-port destination-port-of-pod target-keeps-its-port"),
    ),
    Mutant(
        "target-rules-lost",
        "loses the rules of a TrafficTarget in v1alpha1",
        (
            Edit(
                _CONVERT,
                '_out_of_spec(doc, kept, {"destination": "destination", "rules": "specs", "sources": "sources"})',
                '_out_of_spec(doc, kept, {"destination": "destination", "sources": "sources"})',
            ),
        ),
        kills=cases_of("access", "target-read-in-every-version"),
    ),
    Mutant(
        "group-headers-not-kept",
        "loses the header filters of an HTTPRouteGroup that a v1alpha1 client writes back",
        (
            Edit(
                _CONVERT,
                '        if headers:\n            kept["headers"] = headers\n',
                "        if not headers:\n            return\n",
            ),
        ),
        kills=cases_of("specs", "group-keeps-its-headers group-read-in-every-version"),
    ),
    Mutant(
        "ports-not-kept",
        "loses the ports of a TCPRoute that an old client writes back",
        (Edit(_CONVERT, '        kept["ports"] = spec.pop("matches")\n', '        spec.pop("matches")\n'),),
        kills=cases_of("specs", "route-keeps-its-ports"),
    ),
)
