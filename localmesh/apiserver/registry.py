"""Which resources are served: the built-in table plus what CustomResourceDefinitions add.

Names and shapes only. Behaviour per resource lives in `defaults`, `validate`, `tables` and `crd`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from localmesh.apiserver.structural import CustomVersion

CRUD = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)


@dataclass(frozen=True, slots=True)
class Subresource:
    """A row of discovery below a resource. `kind` may belong to another group (Scale, Eviction)."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource type. `key` (plural, or plural.group) names it in the store,
    in-process and in messages.
    """

    group: str
    versions: tuple[str, ...]  # served, preferred first
    kind: str
    plural: str
    singular: str
    list_kind: str
    namespaced: bool
    storage_version: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = CRUD
    subresources: tuple[Subresource, ...] = ()
    deletes_to_object: bool = False
    """A finished DELETE answers the object instead of a Status."""
    generation: bool = False
    """metadata.generation counts changes of the desired state."""
    selectable: frozenset[str] = frozenset()
    """Field selectors besides metadata.name and metadata.namespace."""
    store_key: str = ""
    """Set when two groups share one store (events)."""
    custom: tuple[CustomVersion, ...] = ()
    """Schemas of a CustomResourceDefinition, one per version; empty for built-in kinds."""
    conversion_webhook: bool = False

    @property
    def key(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored_as(self) -> str:
        return self.store_key or self.key

    @property
    def is_custom(self) -> bool:
        return bool(self.custom)

    def api_version(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version

    def schema_of(self, version: str) -> CustomVersion:
        """The CustomVersion of `version`; only for custom resources."""
        return next(custom for custom in self.custom if custom.name == version)

    def has(self, subresource: str, version: str) -> bool:
        if self.custom:
            schema = self.schema_of(version)
            return {"status": schema.status, "scale": schema.scale is not None}.get(subresource, False)
        return any(row.name == subresource for row in self.subresources)

    @property
    def has_status(self) -> bool:
        """Whether status is written apart from the rest (in any version)."""
        if self.custom:
            return any(version.status for version in self.custom)
        return any(row.name == "status" for row in self.subresources)


_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key that puts Kubernetes versions in order of preference: v2, v1, v1beta2, v1alpha1,
    then others.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        return (3, 0, 0, version)
    major, stage, minor = match.groups()
    rank = {None: 0, "beta": 1, "alpha": 2}[stage]
    return (rank, -int(major), -int(minor or 0), "")


PREFERRED = (
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
)
"""Upstream's groups in the order of their priority, which clients resolve names by."""


@dataclass(slots=True)
class Registry:
    """Lookup of resources; custom ones come and go with their definitions."""

    builtin: tuple[Resource, ...]
    _by_key: dict[str, Resource] = field(default_factory=dict)
    _by_path: dict[tuple[str, str, str], Resource] = field(default_factory=dict)
    _by_kind: dict[tuple[str, str, str], Resource] = field(default_factory=dict)
    revision: int = 0
    """Grows whenever the set of resources changes; caches of discovery and OpenAPI key on it."""

    def __post_init__(self) -> None:
        for resource in self.builtin:
            self._index(resource)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_key.values())

    def get(self, key: str) -> Resource | None:
        """By `plural[.group]`."""
        return self._by_key.get(key)

    def at(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_path.get((group, version, plural))

    def of_kind(self, group: str, version: str, kind: str) -> Resource | None:
        return self._by_kind.get((group, version, kind))

    def in_group(self, group: str) -> list[Resource]:
        return [resource for resource in self if resource.group == group]

    def groups(self) -> list[str]:
        """Named groups (without core): upstream's own in its order of preference, then others by name."""
        found = {resource.group for resource in self if resource.group}
        return [group for group in PREFERRED if group in found] + sorted(found.difference(PREFERRED))

    def versions(self, group: str) -> list[str]:
        """Served versions of a group, preferred first."""
        found = {version for resource in self.in_group(group) for version in resource.versions}
        return sorted(found, key=version_priority)

    def add(self, resource: Resource) -> None:
        """Serve a custom resource, replacing an earlier form of it."""
        self.remove(resource.key)
        self._index(resource)
        self.revision += 1

    def remove(self, key: str) -> None:
        old = self._by_key.pop(key, None)
        if old is None:
            return
        for version in old.versions:
            self._by_path.pop((old.group, version, old.plural), None)
            self._by_kind.pop((old.group, version, old.kind), None)
        self.revision += 1

    def _index(self, resource: Resource) -> None:
        self._by_key[resource.key] = resource
        for version in resource.versions:
            self._by_path[resource.group, version, resource.plural] = resource
            self._by_kind[resource.group, version, resource.kind] = resource


def custom_keys(resources: Iterable[Resource]) -> list[str]:
    return [resource.key for resource in resources if resource.is_custom]
