"""Mutants of traffic splitting."""

from __future__ import annotations

from typing import Final

from tests.conformance.mutants.mutation import Edit, Mutant, cases_of

MUTANTS: Final = (
    Mutant(
        "zero-to-root",
        "falls back to the root Service when no backend can take a request",
        (
            Edit(
                "controller.compile.splits",
                "return Split(str(split.name), split.matches, backends, split.fallback_root)",
                "return Split(str(split.name), split.matches, backends, True)",
            ),
        ),
        cases_of(
            "split",
            "several-no-second-chance zero-all zero-all-ports-mismatch zero-no-backend-exists "
            "zero-no-ready-backend zero-of-filtered zero-tcp",
        ),
    ),
)
