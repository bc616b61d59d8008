"""The discovery protocol's lines."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.discovery.protocol import (
    Ack,
    Hello,
    Nack,
    Ping,
    ProtocolError,
    Subscribe,
    Unknown,
    Unsubscribe,
    parse,
    update_lines,
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"type":"hello","protocol":1,"pod":"shop/web-1","version":"0.1","subscriptions":["10.0.0.1:80"]}',
            Hello("shop/web-1", "0.1", ("10.0.0.1:80",)),
        ),
        ('{"type":"hello","protocol":1,"pod":"shop/web-1"}', Hello("shop/web-1", "", ())),
        ('{"type":"subscribe","keys":["api:80"]}', Subscribe(("api:80",))),
        ('{"type":"unsubscribe","keys":[]}', Unsubscribe(())),
        ('{"type":"ack","revision":7}', Ack(7)),
        ('{"type":"nack","revision":7,"error":"no"}', Nack(7, "no")),
        ('{"type":"ping"}', Ping()),
        ('{"type":"from-the-future","x":1}', Unknown()),
    ],
)
def test_messages(line: str, message: object) -> None:
    assert parse(line.encode()) == message


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        '{"type":1}',
        '{"type":"hello","protocol":2,"pod":"a/b"}',
        '{"type":"hello","protocol":1,"pod":"ab"}',
        '{"type":"hello","protocol":1,"pod":"a/b/c"}',
        '{"type":"ack","revision":true}',
        '{"type":"ack","revision":-1}',
        '{"type":"subscribe","keys":[1]}',
        '{"type":"subscribe","keys":[""]}',
        '{"type":"subscribe","keys":["a\\nb"]}',
        '{"type":"subscribe","keys":"a"}',
        "[" * 100_000,
    ],
)
def test_what_is_refused(line: str) -> None:
    with pytest.raises(ProtocolError):
        parse(line.encode())


@given(
    st.one_of(
        st.binary(),
        st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode),
    )
)
def test_only_protocol_errors_escape(line: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse(line)


NAMES = st.sampled_from(["inbound", "destination/a:1", "destination/b:2", "cluster/a:1", "cluster/b:2"])


@given(st.dictionaries(NAMES, st.text(max_size=40)), st.lists(NAMES), st.integers(1, 100), st.booleans())
def test_cutting_an_update_loses_and_repeats_nothing(
    changed: dict[str, str], removed: list[str], limit: int, full: bool
) -> None:
    lines = [
        json.loads(line) for line in update_lines(3, full=full, changed=changed, removed=removed, limit=limit)
    ]
    together: dict[str, str] = {}
    for line in lines:
        assert line["type"] == "update"
        assert line["revision"] == 3
        assert not together.keys() & line["resources"].keys()
        together |= line["resources"]
    assert together == changed
    assert lines[0]["full"] is full
    assert lines[0]["removed"] == removed
    assert not any(line["full"] or line["removed"] for line in lines[1:])
