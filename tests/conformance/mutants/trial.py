"""What the suite said about one mutant. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conformance.report import Outcome
from tests.conformance.mutants.mutation import Mutant


@dataclass(frozen=True, slots=True)
class Trial:
    """What the suite said about one mutant."""

    mutant: Mutant
    outcomes: Mapping[str, Outcome]
    """Every case that ran or was skipped."""
    messages: Mapping[str, str]
    seconds: float

    @property
    def failed(self) -> frozenset[str]:
        return frozenset(case for case, outcome in self.outcomes.items() if outcome is Outcome.FAILED)

    @property
    def undecided(self) -> frozenset[str]:
        """Cases that ended in an error: no verdict, so neither a kill nor a survival."""
        return frozenset(case for case, outcome in self.outcomes.items() if outcome is Outcome.ERROR)

    @property
    def missed(self) -> frozenset[str]:
        """Cases that ran and should have failed but did not."""
        return (frozenset(self.mutant.kills) & self.outcomes.keys()) - self.failed

    @property
    def unexpected(self) -> frozenset[str]:
        """Cases that failed, or came to no verdict, and should have passed."""
        return (self.failed - frozenset(self.mutant.kills)) | self.undecided

    @property
    def as_expected(self) -> bool:
        return not self.missed and not self.unexpected
