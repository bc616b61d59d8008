"""Typed access to Kubernetes dictionaries: a wrong type is one Unreadable with the field's path.

A missing field, or null, is its type's empty value (Kubernetes omits empty fields).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn


class UnreadableError(ValueError):
    """A field does not have the type that its Kubernetes kind gives it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a parsed JSON document and where it stands (`spec.ports[0]`)."""

    value: object
    path: str = ""

    def at(self, *keys: str) -> Node:
        """The value under nested keys; a null node where one of them is missing."""
        node = self
        for key in keys:
            path = f"{node.path}.{key}" if node.path else key
            node = Node(None if node.value is None else node._object().get(key), path)
        return node

    def _object(self) -> Mapping[object, object]:
        # kopf hands out read-only mapping views, tests and files hand out dicts.
        return self.value if isinstance(self.value, Mapping) else self._refuse("an object")

    def items(self) -> Iterator[Node]:
        """The elements of a list, each with its index in its path."""
        if self.value is None:
            return
        if not isinstance(self.value, list | tuple):
            self._refuse("a list")
        for index, value in enumerate(self.value):
            yield Node(value, f"{self.path}[{index}]")

    def text(self, default: str = "") -> str:
        if self.value is None:
            return default
        return self.value if isinstance(self.value, str) else self._refuse("a string")

    def number(self, default: int = 0) -> int:
        if self.value is None:
            return default
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return self.value
        return self._refuse("a whole number")

    def port(self) -> int:
        """A port number; 0 where there is none."""
        value = self.number()
        if not 0 <= value <= 65535:
            raise UnreadableError(self.path, f"expected a port from 1 to 65535, got {value}")
        return value

    def truth(self, *, default: bool = False) -> bool:
        if self.value is None:
            return default
        return self.value if isinstance(self.value, bool) else self._refuse("true or false")

    def texts(self) -> Mapping[str, str]:
        """A map of strings: labels, annotations, ConfigMap data, selectors."""
        if self.value is None:
            return {}
        return {str(key): Node(value, f"{self.path}.{key}").text() for key, value in self._object().items()}

    def _refuse(self, expected: str) -> NoReturn:
        raise UnreadableError(self.path, f"expected {expected}, got {type(self.value).__name__}")
