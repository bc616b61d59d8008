"""A report as it was published, read back: what coverage, badge and predictions are made from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import yaml

from conformance.report import API_VERSION, KIND, Outcome

_SAFE: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: a report has thousands of lines."""


class PublishedError(ValueError):
    """A file that is not one of our reports; the text names it."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a report says."""

    mesh: str
    began: str
    verdict: str
    counts: Mapping[str, int]
    outcomes: Mapping[str, Outcome]
    """Case name → outcome."""

    @classmethod
    def read(cls, text: str, where: str) -> Self:
        """Parse a report; raises PublishedError."""
        try:
            found: Any = yaml.load(text, Loader=_SAFE)  # noqa: S506 - a safe loader, whichever it is
            if (found["apiVersion"], found["kind"]) != (API_VERSION, KIND):
                raise PublishedError(f"{where}: expected a {KIND} of {API_VERSION}")
            outcomes = {case["name"]: Outcome(case["outcome"]) for case in found["cases"]}
            counts = {str(name): int(count) for name, count in found["counts"].items()}
            return cls(found["mesh"], found["began"], found["verdict"], counts, outcomes)
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise PublishedError(f"{where}: not a report: {error!r}") from None
