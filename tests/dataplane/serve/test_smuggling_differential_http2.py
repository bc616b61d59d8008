"""HTTP/2: what hyper-h2 calls malformed we do not pass on, and it reads what we write as we mean it.

The long form is `make fuzz FUZZ_TARGETS="relayed_streams answered_streams"`.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataplane.serve import tricks
from tests.dataplane.serve.differential_http2 import Part, check_request, check_response, relay_response
from tests.dataplane.serve.judges_http2 import read_response

CHOICES = st.binary(min_size=1, max_size=30)
GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:], (b":authority", b"a")]


@settings(max_examples=200)
@given(CHOICES)
def test_servers_read_what_was_decided(choices: bytes) -> None:
    check_request(tricks.http2_request(choices))


@settings(max_examples=200)
@given(CHOICES)
def test_clients_read_what_was_answered(choices: bytes) -> None:
    check_response(*tricks.http2_response(choices))


def test_the_properties_are_about_something() -> None:
    random = Random(1)
    passed = [check_request(tricks.http2_request(random.randbytes(12))) for _ in range(200)]
    answered = [check_response(*tricks.http2_response(random.randbytes(12))) for _ in range(200)]
    assert 30 < sum(passed) < 190
    assert 30 < sum(answered) < 190


@pytest.mark.parametrize(
    ("parts", "passed"),
    [
        ([("head", [*GET, (b":authority", b""), (b"host", b"a")])], False),
        ([("head", [*GET, (b":authority", b"a"), (b"host", b"a")])], True),
        ([("head", [*GET, (b"host", b"a")])], True),
        ([("head", [*GET, (b":authority", b"[::1]:80")])], True),
        ([("head", [*GET, (b":authority", b"u@a")])], False),
        ([("head", [*GET, (b":authority", b"a, b")])], False),
        ([("head", [*GET, (b":authority", b"a/b")])], False),
        ([("head", [*GET, (b"host", b"a\xff")])], False),
        ([("head", POST), ("head", [(b"x", b"y")])], True),
        ([("head", POST), ("head", [(b"content-length", b"0")])], False),
        ([("head", POST), ("head", [(b"host", b"b")])], False),
        ([("head", POST), ("head", [(b"te", b"trailers")])], False),
        ([("head", POST), ("head", [(b"cookie", b"a=b")])], False),
        ([("head", [*POST, (b":path", b"/b")])], False),
        ([("head", [*POST, (b"x", b"y"), (b":path", b"/b")])], False),
        ([("head", [*POST, (b"content-length", b"3")]), ("data", b"ab")], False),
        ([("head", [*POST, (b"content-length", b"3")]), ("data", b"abcd")], False),
        ([("head", [*POST, (b"content-length", b"3")]), ("data", b"abc")], True),
    ],
)
def test_requests(parts: list[Part], passed: bool) -> None:
    assert check_request(parts) is passed


@pytest.mark.parametrize(
    ("method", "parts", "passed"),
    [
        (b"HEAD", [("head", [(b":status", b"200"), (b"content-length", b"5")])], True),
        (b"HEAD", [("head", [(b":status", b"200"), (b"content-length", b"5")]), ("data", b"")], True),
        (b"HEAD", [("head", [(b":status", b"200")]), ("data", b"hello")], False),
        (b"GET", [("head", [(b":status", b"304"), (b"content-length", b"5")])], True),
        (b"GET", [("head", [(b":status", b"304"), (b"content-length", b"5")]), ("data", b"")], True),
        (b"GET", [("head", [(b":status", b"304")]), ("data", b"hello")], False),
        (b"GET", [("head", [(b":status", b"204")]), ("data", b"hello")], False),
        (b"GET", [("head", [(b":status", b"204"), (b"content-length", b"5")]), ("data", b"")], True),
        (b"GET", [("head", [(b":status", b"200"), (b"content-length", b"5")])], False),
        (b"GET", [("head", [(b":status", b"200"), (b"content-length", b"0")])], True),
        (b"GET", [("head", [(b":status", b"200")]), ("head", [(b"content-length", b"0")])], False),
        (b"GET", [("head", [(b":status", b"200")]), ("head", [(b"grpc-status", b"0")])], True),
    ],
)
def test_answers(method: bytes, parts: list[Part], passed: bool) -> None:
    assert check_response(method, parts) is passed


def test_some_answers_name_no_length() -> None:
    """RFC 9110 §8.6; hyper-h2 waits for it behind a 204."""
    length = (b"content-length", b"5")
    hint: list[Part] = [("head", [(b":status", b"103"), length]), ("head", [(b":status", b"204"), length])]
    relayed = relay_response(b"GET", hint)
    assert relayed is not None
    found = read_response(b"GET", relayed.frames)
    assert (found.interims, found.fields) == ([[(b":status", b"103")]], [(b":status", b"204")])
