"""Write data/types.json.gz: the fields of every built-in kind, taken from the `kubernetes` package's models.

Run `python -m localmesh.apiserver.generate_types` after raising that package's version. Only names and
types are kept (facts of the API); descriptions stay in the package and are read from there when OpenAPI
asks for them.
"""

from __future__ import annotations

import gzip
import re
from importlib import import_module
from typing import Any

from localmesh.apiserver.builtin import BUILTIN
from localmesh.apiserver.jsonvalue import dumps
from localmesh.apiserver.types import PATH

EXTRA_ROOTS = ("AuthenticationV1TokenRequest", "V1Scale", "V1Eviction", "V1DeleteOptions")


def model_name(models: Any, group: str, version: str, kind: str) -> str:
    """What the package calls a kind: V1Pod, V2HorizontalPodAutoscaler, CoreV1Event, EventsV1Event."""
    prefix = version[0].upper() + version[1:]
    if kind == "Event":
        return f"{'Events' if group else 'Core'}{prefix}Event"
    name = f"{prefix}{kind}"
    return name if hasattr(models, name) else f"{group.split('.')[0].capitalize()}{name}"


def encode(text: str) -> str:
    """`List[V1Container]` → `[]V1Container`, `Dict[str, bytes]` → `{}bytes`, `object` → `any`."""
    if match := re.fullmatch(r"List\[(.*)\]", text):
        return "[]" + encode(match[1])
    if match := re.fullmatch(r"Dict\[str, (.*)\]", text):
        return "{}" + encode(match[1])
    return "any" if text in ("object", "None") else text


def collect() -> dict[str, dict[str, Any]]:
    models = import_module("kubernetes.client.models")
    kinds: dict[str, str] = {}
    for resource in BUILTIN:
        for version in resource.versions:
            name = model_name(models, resource.group, version, resource.kind)
            if hasattr(models, name):
                kinds[f"{resource.api_version(version)}/{resource.kind}"] = name
    types: dict[str, Any] = {}
    waiting = [*kinds.values(), *(name for name in EXTRA_ROOTS if hasattr(models, name))]
    while waiting:
        name = waiting.pop()
        if name in types:
            continue
        model = getattr(models, name)
        fields = {}
        for attribute, text in model.openapi_types.items():
            field = model.model_fields.get(attribute) or model.model_fields.get(f"var_{attribute}")
            required = "!" if field is not None and field.is_required() else ""
            fields[model.attribute_map[attribute]] = encode(text) + required
            inner = encode(text).lstrip("[]{}")
            if inner[0].isupper():
                waiting.append(inner)
        types[name] = fields
    return {"kinds": kinds, "types": dict(sorted(types.items()))}


def main() -> None:
    PATH.parent.mkdir(exist_ok=True)
    with gzip.GzipFile(PATH, "wb", mtime=0) as file:
        file.write(dumps(collect()))


if __name__ == "__main__":
    main()
