"""Discovery documents: which groups, versions and resources are served,
in the aggregated and the legacy form.
"""

from __future__ import annotations

from collections.abc import Iterable

from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.registry import Registry, Resource, Subresource

GIT_VERSION = "v1.36.0+smi-mesh-embedded"
"""Semver build metadata says this is not upstream; clients accept it."""


def version_info() -> JsonObject:
    return {
        "major": "1",
        "minor": "36",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "CPython",
        "platform": "linux/amd64",
    }


# --- legacy ------------------------------------------------------------------------------------


def core_versions(address: str) -> JsonObject:
    """GET /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group_list(registry: Registry) -> JsonObject:
    """GET /apis."""
    groups = [_group(registry, name) for name in registry.groups()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group_of(groups: Iterable[JsonObject], name: str) -> JsonObject | None:
    """GET /apis/{group}: the entry of that group list as a document of its own."""
    found = next((one for one in groups if one["name"] == name), None)
    return {"kind": "APIGroup", "apiVersion": "v1", **found} if found is not None else None


def _group(registry: Registry, name: str) -> JsonObject:
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version} for version in registry.versions(name)
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def resource_list(registry: Registry, group_name: str, version: str) -> JsonObject | None:
    """GET /api/v1 and /apis/{group}/{version}."""
    served = _served(registry, group_name, version)
    if not served:
        return None
    rows = []
    for resource in served:
        rows.append(_legacy_row(resource))
        rows += [_legacy_subresource(resource, row) for row in subresources(resource, version)]
    api_version = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": rows}


def _served(registry: Registry, group_name: str, version: str) -> list[Resource]:
    return [resource for resource in registry.in_group(group_name) if version in resource.versions]


def _legacy_row(resource: Resource) -> JsonObject:
    row: JsonObject = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    return row


def _legacy_subresource(resource: Resource, sub: Subresource) -> JsonObject:
    row: JsonObject = {
        "name": f"{resource.plural}/{sub.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.kind,
        "verbs": list(sub.verbs),
    }
    if sub.version:
        row["group"], row["version"] = sub.group, sub.version
    return row


def subresources(resource: Resource, version: str) -> Iterable[Subresource]:
    """The subresource rows of a resource at a version, derived from the schema for custom ones."""
    if not resource.is_custom:
        return resource.subresources
    found = []
    verbs = ("get", "patch", "update")
    if resource.has("status", version):
        found.append(Subresource("status", resource.kind, verbs))
    if resource.has("scale", version):
        found.append(Subresource("scale", "Scale", verbs, "autoscaling", "v1"))
    return found


# --- aggregated --------------------------------------------------------------------------------


def aggregated(registry: Registry, version: str, *, core: bool) -> JsonObject:
    """GET /api or /apis with `as=APIGroupDiscoveryList`; `version` is v2 or v2beta1."""
    names = [""] if core else registry.groups()
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [_aggregated_group(registry, name) for name in names],
    }


def _aggregated_group(registry: Registry, name: str) -> JsonObject:
    versions = []
    for version in registry.versions(name):
        rows = [_aggregated_row(resource, version) for resource in _served(registry, name, version)]
        versions.append({"version": version, "resources": rows, "freshness": "Current"})
    return {"metadata": {"name": name} if name else {}, "versions": versions}


def aggregated_rows(group: str, version: str, rows: Iterable[JsonObject]) -> list[JsonObject]:
    """Rows of a legacy APIResourceList as an extension server gave it, in the aggregated form."""
    found: dict[str, JsonObject] = {}
    for row in rows:
        name, _, sub = str(row.get("name", "")).partition("/")
        kind = {
            "group": row.get("group") or group,
            "version": row.get("version") or version,
            "kind": row.get("kind", ""),
        }
        verbs = list(row.get("verbs") or ())
        if sub:
            below = {"subresource": sub, "responseKind": kind, "verbs": verbs}
            found.get(name, {}).setdefault("subresources", []).append(below)
            continue
        entry = found[name] = {
            "resource": name,
            "responseKind": kind,
            "scope": "Namespaced" if row.get("namespaced") else "Cluster",
            "singularResource": row.get("singularName", ""),
            "verbs": verbs,
        }
        for field in ("shortNames", "categories"):
            if row.get(field):
                entry[field] = list(row[field])
    return list(found.values())


def _aggregated_row(resource: Resource, version: str) -> JsonObject:
    kind = {"group": resource.group, "version": version, "kind": resource.kind}
    row: JsonObject = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    subs = [
        {
            "subresource": sub.name,
            "responseKind": {**kind, "group": sub.group, "version": sub.version, "kind": sub.kind}
            if sub.version
            else {**kind, "kind": sub.kind},
            "verbs": list(sub.verbs),
        }
        for sub in subresources(resource, version)
    ]
    if subs:
        row["subresources"] = subs
    return row
