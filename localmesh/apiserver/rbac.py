"""Role-based access control: may this user do that?

Roles and bindings are read from the store; what applies to a user is computed once and kept until any of them
changes. system:masters may do everything, as upstream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from localmesh.apiserver import selectors
from localmesh.apiserver.call import MASTERS, User
from localmesh.apiserver.errors import ApiError, forbidden
from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.store import Change, Key, Store

GROUP = "rbac.authorization.k8s.io"
CLUSTER_ROLES = f"clusterroles.{GROUP}"
CLUSTER_BINDINGS = f"clusterrolebindings.{GROUP}"
ROLES = f"roles.{GROUP}"
BINDINGS = f"rolebindings.{GROUP}"
_TABLES = frozenset({CLUSTER_ROLES, CLUSTER_BINDINGS, ROLES, BINDINGS})
MAX_CACHED_USERS = 1024


@dataclass(frozen=True, slots=True)
class Attributes:
    """One question: a verb on a resource, or on a path when `path` is set."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    namespace: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Granted:
    """A rule that applies to a user: everywhere when `namespace` is None."""

    namespace: str | None
    rule: JsonObject
    why: str


class Authorizer:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: dict[tuple[str, tuple[str, ...]], list[_Granted]] = {}
        store.on_change(self._changed)

    def decide(self, user: User, attributes: Attributes) -> Decision:
        if MASTERS in user.groups:
            return Decision(True)
        for granted in self._granted(user):
            if granted.namespace is not None and granted.namespace != attributes.namespace:
                continue
            if granted.namespace is not None and attributes.path:
                continue
            if _covers(granted.rule, attributes):
                return Decision(True, granted.why)
        return Decision(False)

    def require(self, user: User, attributes: Attributes) -> None:
        """Raises ApiError 403 with upstream's wording."""
        if self.decide(user, attributes).allowed:
            return
        if attributes.path:
            message = f'forbidden: User "{user.name}" cannot {attributes.verb} path "{attributes.path}"'
            raise ApiError(403, "Forbidden", message, {})
        where = (
            f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
        )
        why = (
            f'User "{user.name}" cannot {attributes.verb} resource "{attributes.full_resource}" in API group '
            f'"{attributes.group}" {where}'
        )
        raise forbidden(attributes.resource, attributes.group, attributes.name, why)

    def rules_for(self, user: User, namespace: str) -> Iterator[JsonObject]:
        """Every rule that applies to `user` in `namespace`, cluster-wide ones included."""
        if MASTERS in user.groups:
            yield {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            yield {"verbs": ["*"], "nonResourceURLs": ["*"]}
        for granted in self._granted(user):
            if granted.namespace in (None, namespace):
                yield granted.rule

    def _changed(self, resource: str, _change: Change) -> None:
        if resource in _TABLES:
            self._cache.clear()

    def _granted(self, user: User) -> list[_Granted]:
        key = (user.name, user.groups)
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) >= MAX_CACHED_USERS:
                self._cache.clear()
            found = self._cache[key] = list(self._collect(user))
        return found

    def _collect(self, user: User) -> Iterator[_Granted]:
        for item in self._store.items(CLUSTER_BINDINGS):
            subject = _subject_of(item.value, user, "")
            if subject:
                yield from self._rules(item.value, None, subject)
        for item in self._store.items(BINDINGS):
            subject = _subject_of(item.value, user, item.key.namespace)
            if subject:
                yield from self._rules(item.value, item.key.namespace, subject)

    def _rules(self, binding: JsonObject, namespace: str | None, subject: str) -> Iterator[_Granted]:
        reference = binding.get("roleRef") or {}
        name = binding["metadata"]["name"]
        kind = "RoleBinding" if namespace is not None else "ClusterRoleBinding"
        shown = f"{name}/{namespace}" if namespace is not None else name
        role = f'{reference.get("kind")} "{reference.get("name")}"'
        why = f'RBAC: allowed by {kind} "{shown}" of {role} to {subject}'
        for rule in self._role_rules(reference, namespace):
            yield _Granted(namespace, rule, why)

    def _role_rules(self, reference: JsonObject, namespace: str | None) -> Iterable[JsonObject]:
        name = reference.get("name", "")
        if reference.get("kind") == "Role":
            item = self._store.get(ROLES, Key(namespace or "", name)) if namespace is not None else None
            return item.value.get("rules") or () if item else ()
        item = self._store.get(CLUSTER_ROLES, Key("", name))
        if item is None:
            return ()
        aggregation = item.value.get("aggregationRule")
        if not aggregation:
            return item.value.get("rules") or ()
        return self._aggregated(aggregation, item.value)

    def _aggregated(self, aggregation: JsonObject, role: JsonObject) -> list[JsonObject]:
        wanted = [selectors.from_json(one) for one in aggregation.get("clusterRoleSelectors") or []]
        rules: list[JsonObject] = []
        for item in self._store.items(CLUSTER_ROLES):
            labels = item.value["metadata"].get("labels") or {}
            if item.value is not role and any(selector.matches(labels) for selector in wanted):
                rules += item.value.get("rules") or []
        return rules


def _subject_of(binding: JsonObject, user: User, namespace: str) -> str:
    """Which subject of the binding the user is, "" for none."""
    for subject in binding.get("subjects") or []:
        kind, name = subject.get("kind"), subject.get("name", "")
        if kind == "User" and name == user.name:
            return f'User "{name}"'
        if kind == "Group" and name in user.groups:
            return f'Group "{name}"'
        if kind == "ServiceAccount":
            where = subject.get("namespace") or namespace
            if user.name == f"system:serviceaccount:{where}:{name}":
                return f'ServiceAccount "{name}/{where}"'
    return ""


def _covers(rule: JsonObject, attributes: Attributes) -> bool:
    verbs = rule.get("verbs") or ()
    if "*" not in verbs and attributes.verb not in verbs:
        return False
    if attributes.path:
        return any(_path_covers(pattern, attributes.path) for pattern in rule.get("nonResourceURLs") or ())
    groups = rule.get("apiGroups") or ()
    if "*" not in groups and attributes.group not in groups:
        return False
    if not any(_resource_covers(pattern, attributes) for pattern in rule.get("resources") or ()):
        return False
    names = rule.get("resourceNames") or ()
    return not names or attributes.name in names


def _resource_covers(pattern: str, attributes: Attributes) -> bool:
    if pattern in ("*", attributes.full_resource):
        return True
    return bool(attributes.subresource) and pattern == f"*/{attributes.subresource}"


def _path_covers(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))
