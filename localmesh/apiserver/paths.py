"""What a URL asks for, before anything is looked up: upstream's RequestInfo."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """`/api/v1/…` or `/apis/group/version/…` with at least a resource behind it.
    `rest` is below a subresource.
    """

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


def parse(path: str) -> ResourcePath | None:
    """None for everything that is not about a resource (discovery, health, version…).
    `path` is still encoded.
    """
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) >= 3:
        group, version, parts = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if parts[0] == "namespaces" and len(parts) >= 3 and parts[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, parts = parts[1], parts[2:]
    plural, name, subresource, *rest = [*parts, "", ""][: max(3, len(parts))]
    return ResourcePath(group, version, plural, namespace, name, subresource, "/".join(rest))


def verb_of(method: str, *, named: bool, watching: bool) -> str:
    """The API verb, "" for methods there is none for."""
    match method:
        case "GET" | "HEAD":
            if watching:
                return "watch"
            return "get" if named else "list"
        case "POST":
            return "create"
        case "PUT":
            return "update"
        case "PATCH":
            return "patch"
        case "DELETE":
            return "delete" if named else "deletecollection"
        case _:
            return ""
