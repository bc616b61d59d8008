"""What a file's name says in KUTTL's format. Pure.

Below a test's directory: `<number>-<name>[-<name>…][.gotmpl].yaml`, or a directory of that name whose files
need no number. `assert` and `errors` as the first name make it an assertion, anything else is applied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_NAME: Final = re.compile(r"(?:(\d+)-)?([^-.]+)(-[^.]+)?((?:\.gotmpl)?\.yaml)?")


class Role(StrEnum):
    """What becomes of a file's objects."""

    APPLY = "apply"
    ASSERT = "assert"
    ERRORS = "errors"


@dataclass(frozen=True, slots=True)
class FileName:
    """A file's name, taken apart."""

    index: int | None
    """The step's number; None when there is none."""
    role: Role
    step: str
    """Names the step; empty for assertions."""
    template: bool


def parse(name: str) -> FileName | None:
    """Take a name (without its directory) apart; None for one that the format does not know."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    number, first, more, ending = found.groups()
    role = {"assert": Role.ASSERT, "errors": Role.ERRORS}.get(first.lower(), Role.APPLY)
    step = first + (more or "") if role is Role.APPLY else ""
    return FileName(int(number) if number else None, role, step, (ending or "").startswith(".gotmpl"))
