"""The codec: exact round trips, blind to unknown fields, one exception type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi.policy.access import compile_access
from smi.policy.codec import (
    CodecError,
    decode_breaker,
    decode_cluster,
    decode_destination,
    decode_inbound,
    encode_breaker,
    encode_cluster,
    encode_destination,
    encode_inbound,
)
from smi.policy.snapshot import PASSTHROUGH, Destination, Inbound
from smi.policy.split import compile_destination
from tests.smi import strategies as s

CODECS: list[tuple[Any, Callable[[Any], Any], Callable[[object], Any]]] = [
    (s.inbounds, encode_inbound, decode_inbound),
    (s.destinations, encode_destination, decode_destination),
    (s.clusters, encode_cluster, decode_cluster),
    (s.breakers, encode_breaker, decode_breaker),
]


def over_the_wire(data: object) -> Any:
    return json.loads(json.dumps(data))


@pytest.mark.parametrize(("values", "encode", "decode"), CODECS)
@given(data=st.data())
def test_round_trip_is_exact(values: Any, encode: Any, decode: Any, data: st.DataObject) -> None:
    value = data.draw(values)
    assert decode(over_the_wire(encode(value))) == value


@pytest.mark.parametrize(("values", "encode", "decode"), CODECS)
@given(data=st.data())
def test_unknown_fields_mean_nothing(values: Any, encode: Any, decode: Any, data: st.DataObject) -> None:
    value = data.draw(values)
    encoded = over_the_wire(encode(value))
    for place in list(objects(encoded)):
        place["a field of a later version"] = {"x": [1, None]}
    assert decode(encoded) == value


def test_missing_fields_have_their_defaults() -> None:
    assert decode_destination({}) == PASSTHROUGH == Destination()
    assert decode_inbound({"pod": "a/b", "identity": "i"}) == Inbound("a/b", "i")


@pytest.mark.parametrize(("values", "encode", "decode"), CODECS)
@given(data=st.data())
def test_only_codec_error_escapes(values: Any, encode: Any, decode: Any, data: st.DataObject) -> None:
    encoded = over_the_wire(encode(data.draw(values)))
    places = list(objects(encoded))
    if places and data.draw(st.booleans()):
        place = data.draw(st.sampled_from(places))
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(s.json_values)
    else:
        encoded = data.draw(s.json_values)
    try:
        value = decode(encoded)
    except CodecError:
        return
    if isinstance(value, Inbound):
        compile_access(value)  # what decodes also compiles
    elif isinstance(value, Destination):
        compile_destination(value)


def objects(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        yield data
        data = list(data.values())
    if isinstance(data, list):
        for item in data:
            yield from objects(item)


INBOUND = {"pod": "a/b", "identity": "i"}


@pytest.mark.parametrize(
    ("decode", "data", "words"),
    [
        (decode_inbound, None, "inbound: expected an object, got None"),
        (decode_inbound, INBOUND | {"mode": "lenient"}, "mode: expected one of enforce, permissive, audit"),
        (decode_inbound, INBOUND | {"grants": [{"target": 1}]}, "target: expected text, got 1"),
        (
            decode_inbound,
            INBOUND | {"same_service_account": 1},
            "same_service_account: expected true or false",
        ),
        (
            decode_inbound,
            INBOUND | {"probes": [{"port": 70000, "path": "/"}]},
            "port: expected a port number",
        ),
        (decode_inbound, INBOUND | {"pod": "\ud800"}, "pod: the text is not valid Unicode"),
        (decode_destination, {"port": True}, "port: expected a port number, got True"),
        (decode_destination, {"port": 10**5000}, "port: expected a port number, got int"),
        (
            decode_destination,
            {"splits": [{"name": "n", "backends": [{"weight": -1}]}]},
            "weight: expected a whole",
        ),
        (decode_cluster, {}, "cluster: expected a list, got dict"),
    ],
)
def test_errors_name_the_field(decode: Any, data: object, words: str) -> None:
    with pytest.raises(CodecError, match=f"^{words}"):
        decode(data)


def test_a_bad_pattern_from_another_engine_harms_only_its_match() -> None:
    good = {"group": "shop/g", "name": "good", "path": "/a"}
    bad = {"group": "shop/g", "name": "bad", "path": "("}
    table = compile_access(decode_inbound(INBOUND | {"grants": [{"target": "shop/t", "http": [bad, good]}]}))
    assert [text.split(":")[0] for text in table.quarantined] == ["match bad of HTTPRouteGroup shop/g"]
