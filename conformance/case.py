"""One case: a requirement of the specification as a value. Pure; it runs nothing and knows no mesh."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from conformance.features import FEATURES, Feature, Group


class Level(StrEnum):
    """How binding a case is for a mesh that claims its feature."""

    CORE = "core"
    """A MUST of the specification, or behaviour without which the feature is not there."""
    EXTENDED = "extended"
    """Specified or commonly relied on, but a mesh may honestly not have it."""
    IMPLEMENTATION = "implementation-specific"
    """The specification is silent; a rule of docs/semantics.md decides, and other meshes decide otherwise."""


Document = Literal["traffic-split", "traffic-access", "traffic-specs", "traffic-metrics"]


@dataclass(frozen=True, slots=True)
class SpecRef:
    """Where the specification asks for it. `requirement` is in our own words."""

    document: Document
    version: str
    """`v1alpha1` … of the document, as SMI v0.6 bundles them."""
    section: str
    requirement: str


Run = Callable[[Any], Awaitable[None]]
"""The behaviour: an async function of a `conformance.driver.Mesh` that raises `expect.ExpectationError`.

Any here because `driver` stands above this module; case modules write the type out."""


@dataclass(frozen=True, slots=True)
class Case:
    """One behaviour. Lives in `cases/<group>/<stem>.py` beside `<stem>.yaml`; `name` is the stem with dashes.

    Raises ValueError for an unknown feature, or without any reference to specification or rules.
    """

    name: str
    feature: str
    level: Level
    run: Run
    refs: tuple[SpecRef, ...] = ()
    rules: tuple[str, ...] = ()
    """Rules of docs/semantics.md that decide where the specification is silent: `("S5", "R3")`."""
    access: Literal["open", "closed"] = "open"
    """`open`: the standing grants let `client`, `other` and `visitor` call everything (for split and metrics
    cases); `closed`: nothing is granted but what the case grants itself."""
    needs: tuple[str, ...] = ()
    """Further features without which the case cannot run (a split case that needs `specs-http-header`)."""
    seconds: float = 60.0
    """Deadline of the whole run, after which the case has failed."""

    def __post_init__(self) -> None:
        for name in (self.feature, *self.needs):
            if name not in FEATURES:
                raise ValueError(
                    f"case {self.name}: unknown feature {name!r}; conformance/features.py lists them"
                )
        if not self.refs and not self.rules:
            raise ValueError(f"case {self.name}: neither specification nor rule is referred to")

    @property
    def about(self) -> Feature:
        return FEATURES[self.feature]

    @property
    def group(self) -> Group:
        return self.about.group
