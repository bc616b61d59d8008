"""`python -m tests.conformance.mutants`: the suite against every mutant, and the matrix that comes of it."""

from __future__ import annotations

from tests.conformance.mutants.command import main

main()
