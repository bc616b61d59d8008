"""Edits that make the controller drop deletions of one kind, until another object of it is created.

Dropped for ever they would carry from case to case; so they are noticed with the next object of the same
kind in the same namespace that is created.
"""

from __future__ import annotations

from typing import Final

from tests.conformance.mutants.mutation import Edit

_INDEX: Final = "controller.watch.index"
_READINGS: Final = (
    "        readings = (one.reading for kind in self.indexes for one in self._objects(kind))\n"
)
_BURIED: Final = """_LAST: dict[object, Reading] = {}


def _with_the_dead(readings):
    here = {one.ref: one for one in readings if one.ref.kind == %r and %s}
    created = {
        ref.namespace for ref, one in here.items() if ref not in _LAST or _LAST[ref].uid != one.uid
    }
    for ref in [ref for ref in _LAST if ref not in here and ref.namespace in created]:
        del _LAST[ref]
    _LAST.update(here)
    return [*readings, *(one for ref, one in _LAST.items() if ref not in here)]


def ghosts("""


def dropped(kind: str, which: str = "True") -> tuple[Edit, ...]:
    """Drop deletions of objects of `kind` for which `which`, an expression about the reading `one`, holds."""
    return (
        Edit(
            _INDEX,
            _READINGS,
            _READINGS.replace("(one.reading", "_with_the_dead([one.reading").replace("))\n", ")])\n"),
        ),
        Edit(_INDEX, "def ghosts(", _BURIED % (kind, which)),
    )
