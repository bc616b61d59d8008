"""OpenAPI v2: what older clients read. That they can, test_kubectl_sweep shows with kubectl 1.20."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from localmesh.apiserver import openapi_v2
from localmesh.apiserver.builtin import BUILTIN
from localmesh.apiserver.crd import resource_of
from localmesh.apiserver.openapi import document

from .conftest import Client
from .test_golden_crd import DEFINITION

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


def fields(message: bytes) -> dict[int, list[Any]]:
    """A protobuf message by field number: bytes, or integers."""
    found: dict[int, list[Any]] = defaultdict(list)
    place = 0

    def varint() -> int:
        nonlocal place
        result = shift = 0
        while True:
            byte = message[place]
            place += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    while place < len(message):
        tag = varint()
        if tag & 7 == 0:
            found[tag >> 3].append(varint())
        else:
            assert tag & 7 == 2
            length = varint()
            found[tag >> 3].append(message[place : place + length])
            place += length
    assert place == len(message)
    return found


def named(entries: list[bytes]) -> dict[str, dict[int, list[Any]]]:
    rows = [fields(entry) for entry in entries]
    return {row[1][0].decode(): fields(row[2][0]) for row in rows}


async def test_clients_find_dry_run_and_merge_keys(call: Client) -> None:
    answer = await call.session.get(f"{call.url}/openapi/v2", headers={"Accept": PROTOBUF})
    assert answer.content_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    whole = fields(await answer.read())
    assert whole[1] == [b"2.0"]
    paths = named(fields(whole[8][0])[2])
    definitions = named(fields(whole[9][0])[1])
    deployment = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    patch = fields(deployment[8][0])
    queries = [fields(fields(fields(fields(one)[1][0])[2][0])[3][0])[4][0] for one in patch[8]]
    assert b"dryRun" in queries
    extensions = {name: value[2][0] for name, value in named(patch[13]).items()}
    assert b'"kind":"Deployment"' in extensions["x-kubernetes-group-version-kind"]
    spec = named(fields(definitions["io.k8s.v1.PodSpec"][25][0])[1])
    merge = {name: value[2][0] for name, value in named(spec["containers"][31]).items()}
    assert merge["x-kubernetes-patch-merge-key"] == b'"name"'


def test_references_lead_somewhere() -> None:
    documents = [
        document([kind for kind in BUILTIN if kind.group == group and version in kind.versions], version)
        for group, version in {(kind.group, version) for kind in BUILTIN for version in kind.versions}
    ]
    definitions = openapi_v2.swagger(documents, {"title": "t", "version": "v"})["definitions"]

    def references(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*(references(item) for item in value))
        if not isinstance(value, dict):
            return set()
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))

    assert references(definitions) <= {f"#/definitions/{name}" for name in definitions}


def test_what_v2_cannot_say_is_left_open() -> None:
    """Old clients refuse by it what does not fit."""
    whole = openapi_v2.swagger([document([resource_of(DEFINITION)], "v1")], {"title": "t", "version": "v"})
    spec = whole["definitions"]["io.demo.v1.Widget"]["properties"]["spec"]["properties"]
    assert spec["port"] == {"x-kubernetes-int-or-string": True}
    assert spec["free"] == {"x-kubernetes-preserve-unknown-fields": True}
    assert spec["mode"] == {"type": "string", "enum": ["a", "b"]}
    assert openapi_v2.encode(whole)
