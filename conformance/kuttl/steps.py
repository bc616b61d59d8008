"""Steps that are Python functions, bound to a test and a step by name, as the official SMI tests do it.

A step file that holds nothing but an empty TestStep (`03-trafficBlocked.yaml` in `traffic-access/`) is such a
step: the function bound to `traffic-access` and `trafficBlocked` is its body.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from types import MappingProxyType
from typing import Any, Final

from conformance.drivers.reach import Reach
from conformance.kube import Kube
from conformance.kuttl.model import FormatError

ENTRY_POINTS: Final = "smi_mesh.conformance.steps"
"""Packages offer bindings under this name: `anything = "module:mapping"`."""


class StepFailed(Exception):  # noqa: N818 - an outcome of a step, not a fault of the program
    """What a bound function saw is not what it should see; the text says both."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a bound function is given."""

    test: str
    step: str
    namespace: str
    kube: Kube
    reach: Reach
    """Orders to the control port of pods of the conformance application."""
    seconds: float
    """The step's time; the function is cancelled after it."""
    log: Callable[[str], None]


Function = Callable[[Context], Awaitable[None]]
"""A step's body. Passes by returning, fails with StepFailed (or any `conformance` error)."""


@dataclass(frozen=True, slots=True)
class Bindings:
    """Functions by test and step."""

    functions: Mapping[tuple[str, str], Function] = field(default_factory=lambda: MappingProxyType({}))

    def find(self, test: str, step: str) -> Function | None:
        return self.functions.get((test, step))

    def unused(self, steps: Mapping[str, Iterable[str]]) -> list[str]:
        """Bindings to a test that is there, but to a step that it does not have: most likely misspelt."""
        return [
            f"{test}/{step}"
            for test, step in self.functions
            if test in steps and step not in set(steps[test])
        ]


def bind(choices: Iterable[str], *, installed: bool = True) -> Bindings:
    """The bindings of `--steps`, after those that installed packages offer.

    A choice is `module` (its `STEPS`), `module:name` (a mapping test → step → function, or a function without
    parameters that returns one), or `test/step=module:function`. Raises FormatError.
    """
    functions: dict[tuple[str, str], Function] = {}
    if installed:
        for entry in metadata.entry_points(group=ENTRY_POINTS):
            functions |= _table(entry.load(), entry.value)
    for choice in choices:
        name, equals, target = choice.partition("=")
        if equals:
            test, slash, step = name.partition("/")
            if not slash:
                raise FormatError(f"--steps {choice}: expected <test>/<step>=<module>:<function>")
            functions[test, step] = _function(_load(target, choice), choice)
        else:
            functions |= _table(_load(choice, choice), choice)
    return Bindings(MappingProxyType(functions))


def _load(target: str, choice: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name or "STEPS")
    except (ImportError, AttributeError) as error:
        raise FormatError(f"--steps {choice}: {error}") from None


def _table(found: Any, choice: str) -> dict[tuple[str, str], Function]:
    table = found() if callable(found) else found
    if not isinstance(table, Mapping) or not all(isinstance(part, Mapping) for part in table.values()):
        raise FormatError(f"--steps {choice}: expected a mapping test → step → function")
    return {
        (test, step): _function(function, choice)
        for test, steps in table.items()
        for step, function in steps.items()
    }


def _function(found: Any, choice: str) -> Function:
    if not inspect.iscoroutinefunction(found):
        raise FormatError(f"--steps {choice}: {found!r} is not an async function of one Context")
    function: Function = found
    return function
