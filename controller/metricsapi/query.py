"""From a path and its parameters to a question about traffic, or to why it is none. Pure.

Label selectors are not parsed here: the API server evaluates them on the objects themselves, so they mean
what they mean everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from controller.metricsapi.resources import GROUP, RESOURCES, SPLITS, VERSION, Resource
from controller.metricsapi.taporder import TapOrder, TapOrderError


class Document(StrEnum):
    """Paths that describe the API instead of answering about traffic."""

    ROOTS = "roots"
    GROUP = "group"
    RESOURCES = "resources"


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked. Without `name` all of the kind, in `namespace` or (empty) everywhere."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    edges: bool = False
    selector: str = ""
    """labelSelector as sent."""
    tap: TapOrder | None = None
    """Live requests instead of numbers."""

    @property
    def subresource(self) -> str:
        return "edges" if self.edges else "tap" if self.tap is not None else ""

    @property
    def verb(self) -> str:
        return "get" if self.name else "list"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is a Status with this code, reason and message."""

    code: int
    reason: str
    message: str


NO_SUCH_RESOURCE = Refusal(404, "NotFound", "the server could not find the requested resource")
READ_ONLY = Refusal(
    405, "MethodNotAllowed", "traffic metrics can only be read: the verbs are get and list, not watch"
)


def parse(method: str, path: str, parameters: Mapping[str, str]) -> Query | Document | Refusal:
    """The meaning of a request. `path` is still percent-encoded."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    document = _document(parts)
    if document is None and parts[:3] != ["apis", GROUP, VERSION]:
        return NO_SUCH_RESOURCE
    if method not in ("GET", "HEAD"):
        return READ_ONLY
    if document is not None:
        return document
    try:
        found = _query(parts[3:], parameters)
    except TapOrderError as error:
        return Refusal(400, "BadRequest", str(error))
    if isinstance(found, Refusal):
        return found
    if parameters.get("watch", "") not in ("", "0", "false"):
        return READ_ONLY
    if parameters.get("fieldSelector"):
        return Refusal(400, "BadRequest", "fieldSelector is not supported by traffic metrics")
    return found


def _document(parts: list[str]) -> Document | None:
    match parts:
        case ["apis"]:
            return Document.ROOTS
        case ["apis", group] if group == GROUP:
            return Document.GROUP
        case ["apis", group, version] if (group, version) == (GROUP, VERSION):
            return Document.RESOURCES
    return None


def _query(parts: list[str], parameters: Mapping[str, str]) -> Query | Refusal:
    namespace, selector = "", parameters.get("labelSelector", "")
    if parts[0] == "namespaces" and len(parts) >= 3 and parts[2] not in ("edges", "tap"):
        namespace, parts = parts[1], parts[2:]
    resource = RESOURCES.get(parts[0])
    if resource is None or (namespace and not resource.namespaced) or not all(parts):
        return NO_SUCH_RESOURCE
    match parts[1:]:
        case []:
            return Query(resource, namespace, selector=selector)
        case [name] if namespace or not resource.namespaced:
            return Query(resource, namespace, name)
        case [name, "edges"] if namespace or not resource.namespaced:
            return Query(resource, namespace, name, edges=True, selector=selector)
        case [name, "tap"] if resource.plural != SPLITS and (namespace or not resource.namespaced):
            return Query(resource, namespace, name, tap=TapOrder.read(parameters))
        case _:
            return NO_SUCH_RESOURCE
