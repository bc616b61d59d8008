"""All mutants."""

from __future__ import annotations

from typing import Final

from tests.conformance.mutants import access, metrics, reports, specs, splits, versions

MUTANTS: Final = (
    *splits.MUTANTS,
    *access.MUTANTS,
    *specs.MUTANTS,
    *versions.MUTANTS,
    *reports.MUTANTS,
    *metrics.MUTANTS,
)
