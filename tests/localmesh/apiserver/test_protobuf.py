"""Protobuf request bodies: upstream's own fixtures, and nonsense."""

from __future__ import annotations

import base64
import gzip
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmesh.apiserver import protobuf
from localmesh.apiserver.errors import ApiError

FIXTURES: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parent / "golden" / "protobuf-1.37.2.json.gz").read_bytes())
)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", sorted(FIXTURES))
def test_upstream_fixture(kind: str) -> None:
    body, expected = FIXTURES[kind]
    decoded = protobuf.decode(base64.b64decode(body))
    assert without_nulls(decoded) == without_nulls(expected)


def decode_or_refuse(body: bytes) -> None:
    """The only exception that may escape is ApiError."""
    with suppress(ApiError):
        assert isinstance(protobuf.decode(body), dict)


@given(st.binary(max_size=200))
def test_nonsense_is_a_bad_request(data: bytes) -> None:
    for body in (data, protobuf.MAGIC + data):
        decode_or_refuse(body)


@given(st.data())
def test_damaged_bodies_are_bad_requests_or_objects(data: st.DataObject) -> None:
    body = bytearray(base64.b64decode(FIXTURES["apps.v1.Deployment"][0]))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(4, len(body) - 1))] = data.draw(st.integers(0, 255))
    decode_or_refuse(bytes(body))
