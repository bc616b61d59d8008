"""What a mutant is: our own mesh with a few lines of its source replaced, and the cases that must notice.

Edits of source text rather than patches of objects, because a mutant then reads like the mistake somebody
could make, and because `from … import` has no way around it. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
SITE: Final = Path(__file__).resolve().parent / "site"
VARIABLE: Final = "SMI_MESH_MUTATION"


@dataclass(frozen=True, slots=True)
class Edit:
    """`before`, which occurs exactly once in the module's source, becomes `after`."""

    module: str
    before: str
    after: str

    @property
    def path(self) -> Path:
        return ROOT.joinpath(*self.module.split(".")).with_suffix(".py")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken mesh. `kills` are exactly the cases that fail on it, as `group/name`."""

    name: str
    breaks: str
    """What it does wrong, as a clause: `ignores the weights`."""
    edits: tuple[Edit, ...]
    kills: tuple[str, ...]
    fresh: bool = False
    """Every case needs namespaces of its own: it does not forget what was deleted."""

    @property
    def text(self) -> str:
        """The edits as `site/sitecustomize.py` reads them."""
        return json.dumps([[edit.module, edit.before, edit.after] for edit in self.edits])


def cases_of(group: str, names: str) -> tuple[str, ...]:
    """`cases_of("split", "weights-half zero-all")`: the ids of several cases of a group."""
    return tuple(f"{group}/{name}" for name in names.split())


def killers(mutants: Iterable[Mutant]) -> dict[str, list[str]]:
    """Case → the mutants that are expected to fail it."""
    found: dict[str, list[str]] = {}
    for mutant in mutants:
        for case in mutant.kills:
            found.setdefault(case, []).append(mutant.name)
    return found
