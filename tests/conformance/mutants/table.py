"""All mutants."""

from __future__ import annotations

from typing import Final

from tests.conformance.mutants import splits

MUTANTS: Final = (*splits.MUTANTS,)
