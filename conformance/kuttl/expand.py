"""What stands for values: `$NAME` in commands, `<NAMESPACE>` in manifests, `{{ … }}` in templates. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from conformance.kuttl.model import FormatError

_DOLLAR: Final = re.compile(r"\$(?:(\$)|\{([^{}]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_BRACES: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_FIELD: Final = re.compile(r"\.(Namespace|Env\.[A-Za-z_][A-Za-z0-9_]*|Vars\.[A-Za-z_][A-Za-z0-9_]*)")
PLACEHOLDER: Final = "<NAMESPACE>"
"""The official SMI tests write it where the test's namespace belongs."""


def dollars(text: str, values: Mapping[str, str]) -> str:
    """Fill in `$NAME` and `${NAME}`; `$$` is one dollar, a name without a value is nothing."""
    return _DOLLAR.sub(lambda found: "$" if found[1] else values.get(found[2] or found[3] or "", ""), text)


def placeholders(text: str, namespace: str) -> str:
    """Fill in `<NAMESPACE>`."""
    return text.replace(PLACEHOLDER, namespace)


def template(
    text: str, namespace: str, environment: Mapping[str, str], variables: Mapping[str, str], where: str
) -> str:
    """Fill in `{{ .Namespace }}`, `{{ .Env.NAME }}` and `{{ .Vars.name }}`.

    That is the part of KUTTL's templates that is plain fields; raises FormatError for anything else in them.
    """

    def value(found: re.Match[str]) -> str:
        field = _FIELD.fullmatch(found[1])
        if field is None:
            raise FormatError(
                f"{where}: {{{{ {found[1]} }}}}: only .Namespace, .Env.<name> and .Vars.<name> are supported"
            )
        part, _, name = field[1].partition(".")
        if part == "Namespace":
            return namespace
        source = environment if part == "Env" else variables
        if name not in source:
            raise FormatError(f"{where}: {{{{ .{field[1]} }}}} has no value: --template-var {name}=…")
        return source[name]

    return _BRACES.sub(value, text)
