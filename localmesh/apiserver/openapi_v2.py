"""OpenAPI v2 ("swagger") of everything served, as JSON and in protobuf, made of the v3 documents.

Clients before 1.27 know nothing else: kubectl reads from it which lists merge by which key, whether a kind
takes `dryRun`, what `explain` prints, and checks manifests by it before it sends them. Helm 3 reads it too.
Pure functions. Sources: OpenAPI 2.0; message layout of gnostic's OpenAPIv2.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from localmesh.apiserver.jsonvalue import JsonObject, dumps

_V3, _V2 = "#/components/schemas/", "#/definitions/"
_KEPT = frozenset(
    {"description", "format", "pattern", "enum", "required", "default", "maximum", "minimum", "maxLength",
     "minLength", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "multipleOf",
     "exclusiveMaximum", "exclusiveMinimum", "title"}
)  # fmt: skip
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


def swagger(documents: Iterable[JsonObject], info: JsonObject) -> JsonObject:
    """The v2 document of v3 documents of groups and versions."""
    definitions: JsonObject = {}
    paths: JsonObject = {}
    for document in documents:
        for name, schema in document["components"]["schemas"].items():
            known = definitions.get(name)
            if known is None or "x-kubernetes-group-version-kind" in schema:
                definitions[name] = _schema(schema)
        for path, item in document["paths"].items():
            paths[path] = {method: _operation(item[method]) for method in _METHODS if method in item}
    return {"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions}


def _schema(schema: JsonObject) -> JsonObject:
    """What v2 can say of a schema; where it cannot, anything goes: clients refuse what does not fit."""
    result = {key: value for key, value in schema.items() if key in _KEPT or key.startswith("x-")}
    reference = _reference(schema)
    if reference:
        kept = {key: result[key] for key in result if key == "description" or key.startswith("x-")}
        return {**kept, "$ref": reference.replace(_V3, _V2)}
    loose = (
        schema.get("nullable")
        or schema.get("x-kubernetes-preserve-unknown-fields")
        or schema.get("x-kubernetes-int-or-string")
    )
    if loose or schema == {"type": "object"} or _is_any(schema):
        return {key: value for key, value in result.items() if key not in ("required", "default", "enum")}
    if "type" in schema:
        result["type"] = schema["type"]
    if isinstance(schema.get("properties"), dict):
        result["properties"] = {name: _schema(inner) for name, inner in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        result["items"] = _schema(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = _schema(schema["additionalProperties"])
    return result


def _reference(schema: JsonObject) -> str:
    every: list[JsonObject] = schema.get("allOf") or []
    if len(every) == 1 and "$ref" in every[0]:
        return str(every[0]["$ref"])
    return str(schema.get("$ref") or "")


def _is_any(schema: JsonObject) -> bool:
    """An object of which nothing is said."""
    return schema.get("type") == "object" and not any(
        key in schema for key in ("properties", "additionalProperties")
    )


def _operation(operation: JsonObject) -> JsonObject:
    parameters = [
        {"name": row["name"], "in": row["in"], "type": "string", "uniqueItems": True}
        for row in operation.get("parameters") or ()
    ]
    extensions = {key: value for key, value in operation.items() if key.startswith("x-")}
    body = operation.get("requestBody") or {}
    consumes = list(body.get("content") or ["*/*"])
    responses = {code: {"description": row["description"]} for code, row in operation["responses"].items()}
    return {"consumes": consumes, "parameters": parameters, "responses": responses, **extensions}


# --- protobuf --------------------------------------------------------------------------------------


def encode(document: JsonObject) -> bytes:
    """A document of `swagger` as openapi.v2.Document."""
    info = document["info"]
    return b"".join(
        (
            _text(1, document["swagger"]),
            _piece(2, _text(1, info["title"]) + _text(2, info["version"])),
            _piece(
                8, b"".join(_piece(2, _named(path, _item(item))) for path, item in document["paths"].items())
            ),
            _piece(9, _named_schemas(document["definitions"])),
        )
    )


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number)
    return bytes(result)


def _piece(number: int, content: bytes) -> bytes:
    """A field of wire type 2."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    return _piece(number, text.encode()) if text else b""


def _yes(number: int, flag: Any) -> bytes:
    return _varint(number << 3) + b"\x01" if flag else b""


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + _piece(2, value)


def _any(value: Any) -> bytes:
    """Any: the value as YAML, of which JSON is a part."""
    return _text(2, dumps(value).decode())


def _extensions(number: int, schema: Mapping[str, Any]) -> Iterator[bytes]:
    for key, value in schema.items():
        if key.startswith("x-"):
            yield _piece(number, _named(key, _any(value)))


def _item(item: JsonObject) -> bytes:
    numbers = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}
    return b"".join(_piece(numbers[method], _encoded_operation(row)) for method, row in item.items())


def _encoded_operation(operation: JsonObject) -> bytes:
    parts = [_text(7, media_type) for media_type in operation["consumes"]]
    for row in operation["parameters"]:
        query = _text(2, row["in"]) + _text(4, row["name"]) + _text(6, row["type"]) + _yes(20, True)
        # ParametersItem → Parameter → NonBodyParameter → QueryParameterSubSchema
        parts.append(_piece(8, _piece(1, _piece(2, _piece(3, query)))))
    codes = b"".join(
        _piece(1, _named(code, _piece(1, _text(1, row["description"]))))
        for code, row in operation["responses"].items()
    )
    return b"".join([*parts, _piece(9, codes), *_extensions(13, operation)])


def _named_schemas(schemas: JsonObject) -> bytes:
    return b"".join(_piece(1, _named(name, _encoded_schema(schema))) for name, schema in schemas.items())


def _encoded_schema(schema: JsonObject) -> bytes:
    parts = [
        _text(1, schema.get("$ref") or ""),
        _text(2, schema.get("format") or ""),
        _text(4, schema.get("description") or ""),
        _piece(5, _any(schema["default"])) if "default" in schema else b"",
        _text(13, schema.get("pattern") or ""),
        *(_text(19, name) for name in schema.get("required") or ()),
        *(_piece(20, _any(choice)) for choice in schema.get("enum") or ()),
    ]
    if "additionalProperties" in schema:
        parts.append(_piece(21, _piece(1, _encoded_schema(schema["additionalProperties"]))))
    if "type" in schema:
        parts.append(_piece(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_piece(23, _piece(1, _encoded_schema(schema["items"]))))
    if "properties" in schema:
        parts.append(_piece(25, _named_schemas(schema["properties"])))
    return b"".join([*parts, *_extensions(31, schema)])
