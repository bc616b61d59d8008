"""What accompanies a request through the layers: who asks, for what, with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.registry import Resource
from localmesh.apiserver.selectors import ALL_FIELDS, EVERYTHING, FieldSelector, LabelSelector

FieldValidation = Literal["Ignore", "Warn", "Strict"]
Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated caller, as TokenReview and webhooks describe one."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_json(self) -> JsonObject:
        info: JsonObject = {"username": self.name}
        if self.uid:
            info["uid"] = self.uid
        if self.groups:
            info["groups"] = list(self.groups)
        if self.extra:
            info["extra"] = {key: list(values) for key, values in self.extra.items()}
        return info


MASTERS = "system:masters"
IN_PROCESS = User("system:localmesh", groups=(MASTERS, "system:authenticated"))
"""The built-in controllers and the node, which live in this process."""


@dataclass(slots=True)
class Call:
    """Options of one write, and the warnings it gathers for the response header."""

    user: User = IN_PROCESS
    dry_run: bool = False
    validation: FieldValidation = "Warn"
    manager: str = ""
    """The field manager the caller names."""
    agent: str = "localmesh"
    """What stands for it where the caller names none."""
    force: bool = False
    """A server-side apply takes over what others own."""
    through: str = ""
    """The subresource that managedFields name when the whole object is written for it (scale)."""
    repeated: list[str] = field(default_factory=list)
    """Fields the body has more than once, by path."""
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        if text not in self.warnings and len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(text)


MAX_WARNINGS = 32


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. Empty namespace: cluster-scoped, or all namespaces for list and watch."""

    resource: Resource
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    grace_seconds: int | None = None
    propagation: Propagation | None = None
    uid: str | None = None
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class ListQuery:
    labels: LabelSelector = EVERYTHING
    fields: FieldSelector = ALL_FIELDS
    limit: int = 0
    continue_token: str = ""
    revision: int | None = None
    """The resourceVersion asked for, None when unset."""
    exact: bool = False


@dataclass(frozen=True, slots=True)
class ListPage:
    items: list[JsonObject]
    revision: int
    continue_token: str = ""
    remaining: int | None = None
