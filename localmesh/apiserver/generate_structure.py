"""Write data/structure.json.gz: which parts of built-in kinds are owned and merged as one, and which by key.

    python -m localmesh.apiserver.generate_structure DIRECTORY

DIRECTORY holds checkouts called client-go, apiextensions-apiserver and kube-aggregator
(github.com/kubernetes/…, or the Go modules k8s.io/…). Their apply configurations carry the schema that
server-side apply works with. Only facts are kept, for types and fields that types.json.gz has; see
data/NOTICE.
"""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from localmesh.apiserver.jsonvalue import dumps
from localmesh.apiserver.structure import PATH, TYPE_ITSELF
from localmesh.apiserver.types import table

SOURCES = (
    "client-go/applyconfigurations/internal/internal.go",
    "apiextensions-apiserver/pkg/client/applyconfiguration/internal/internal.go",
    "kube-aggregator/pkg/client/applyconfiguration/internal/internal.go",
)
_SCHEMA = re.compile(r"typed\.YAMLObject\(`(.*?)`\)", re.DOTALL)


def read(directory: Path) -> dict[str, Any]:
    """Upstream's types by name."""
    types: dict[str, Any] = {}
    for source in SOURCES:
        found = _SCHEMA.search((directory / source).read_text())
        if found is None:
            raise SystemExit(f"{source} has no schema")
        types |= {row["name"]: row for row in yaml.load(found[1], yaml.CSafeLoader)["types"]}
    return types


def root_name(types: dict[str, Any], api_version: str, kind: str) -> str | None:
    """io.k8s.api.apps.v1.Deployment and the like; groups are named by their first word."""
    group, _, version = api_version.rpartition("/")
    word = group.partition(".")[0] or "core"
    ending = f".{word}.{version}.{kind}"
    return next((name for name in types if name.endswith(ending)), None)


def relation(field: dict[str, Any], types: dict[str, Any]) -> str:
    """How a field merges: "" as its type says, `atomic`, `set`, or `keyed` with names and defaults."""
    kind = field["type"]
    if (
        kind.get("elementRelationship") == "atomic"
        or kind.get("map", {}).get("elementRelationship") == "atomic"
    ):
        return "atomic"
    many = kind.get("list")
    if many is None:
        return ""
    if many["elementRelationship"] == "atomic":
        return "atomic"
    if "keys" not in many:
        return "set"
    item = {row["name"]: row for row in types[many["elementType"]["namedType"]]["map"]["fields"]}
    keys = []
    for key in many["keys"]:
        default = item[key].get("default")
        keys.append(f"{key}={default}" if default else key)
    return " ".join(("keyed", *keys))


def collect(types: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Type → field → relation, and `present` after it where an empty object is always written."""
    known = table().types
    result: dict[str, dict[str, str]] = {}
    waiting = [
        (name, root)
        for place, name in table().kinds.items()
        if (root := root_name(types, *place.rsplit("/", 1))) is not None
    ]
    seen = set()
    while waiting:
        name, theirs = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        described = types[theirs].get("map") or {}
        told = {}
        if described.get("elementRelationship") == "atomic":
            told[TYPE_ITSELF] = "atomic"
        for field in described.get("fields") or ():
            ours = known[name].get(field["name"])
            if ours is None:
                continue
            words = [relation(field, types)] if relation(field, types) else []
            words += ["present"] if field.get("default") == {} else []
            if words:
                told[field["name"]] = " ".join(words)
            inner = ours.type.removeprefix("[]").removeprefix("{}")
            kind = field["type"]
            many = kind.get("list") or kind.get("map") or {}
            named = kind.get("namedType") or (many.get("elementType") or {}).get("namedType")
            if inner in known and known[inner] and named in types:
                waiting.append((inner, named))
        if told:
            result[name] = told
    return dict(sorted(result.items()))


def main() -> None:
    with gzip.GzipFile(PATH, "wb", mtime=0) as file:
        file.write(dumps(collect(read(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
