"""Trace context is taken from requests that have one, well-formed, and said on as its form demands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.core.traces import (
    B3,
    B3_MULTI,
    FORMS,
    W3C,
    Context,
    Fields,
    read_context,
    says_no,
    trace_of,
    write_context,
    write_refusal,
)
from smi.names import TRACE_FORMS

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
T = TRACE.encode()
S = b"00f067aa0ba902b7"
OWN = b"b7ad6b7169203331"
NONE = b"0" * 32

_CLOSE_TO_ONE = rb"(00|01|ff)-(0{32}|[0-9a-f]{32})-(0{16}|[0-9a-f]{16})-[0-9a-fx]{2}(-a)?"

hexadecimal = st.text("0123456789abcdef", min_size=32, max_size=32).filter(lambda text: text.strip("0"))
traces = hexadecimal.map(str.encode)
spans = hexadecimal.map(lambda text: text[:16].encode()).filter(lambda text: bool(text.strip(b"0")))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({b"traceparent": b"00-%s-00f067aa0ba902b7-01" % T}, TRACE),
        ({b"traceparent": b"01-%s-00f067aa0ba902b7-01-more" % T}, TRACE),
        ({b"traceparent": b"00-%s-00f067aa0ba902b7-01" % (b"0" * 32)}, ""),
        ({b"traceparent": b"00-%s-00f067aa0ba902b7-01" % T.upper()}, ""),
        ({b"traceparent": b"ff-%s-00f067aa0ba902b7-01" % T}, ""),
        ({b"traceparent": b"nonsense", b"b3": b"%s-00f067aa0ba902b7-1" % T}, TRACE),
        ({b"b3": b"0"}, ""),
        ({b"x-b3-traceid": b"463ac35c9f6413ad"}, "463ac35c9f6413ad"),
        ({}, ""),
    ],
)
def test_the_trace_of_a_request(fields: dict[bytes, bytes], expected: str) -> None:
    assert trace_of(fields.get) == expected


@given(st.binary(max_size=80))
def test_whatever_a_client_sends_is_an_id_or_nothing(value: bytes) -> None:
    found = trace_of(lambda _name: value)
    assert len(found) in (0, 16, 32)
    assert all(letter in "0123456789abcdef" for letter in found)


def test_the_forms_are_those_that_can_be_configured() -> None:
    assert tuple(FORMS) == TRACE_FORMS


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (b"00-%s-%s-01" % (T, S), True),
        (b"00-%s-%s-00" % (T, S), False),
        (b"00-%s-%s-02" % (T, S), False),
        (b"00-%s-%s-ff" % (T, S), True),
        (b"cc-%s-%s-01" % (T, S), True),
        (b"cc-%s-%s-00-what-the-future-brings" % (T, S), False),
    ],
)
def test_a_traceparent_of_this_or_a_later_version_is_read(value: bytes, sampled: bool) -> None:
    context = read_context([(b"traceparent", value)])
    assert context is not None
    assert (context.forms, context.trace, context.span, context.sampled) == (W3C, T, S, sampled)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        b"ff-%s-%s-01" % (T, S),
        b"00-%s-%s-01-more" % (T, S),
        b"00-%s-%s-01-" % (T, S),
        b"cc-%s-%s-01.more" % (T, S),
        b"00-%s-%s-1" % (T, S),
        b"00-%s-%s-0x" % (T, S),
        b"00-%s-%s-01" % (T.upper(), S),
        b"00-%s-%s-01" % (T[:-1], S),
        b"00-%s-%s-01" % (NONE, S),
        b"00-%s-%s-01" % (T, b"0" * 16),
        b"00_%s_%s_01" % (T, S),
    ],
)
def test_a_malformed_traceparent_counts_as_absent(value: bytes) -> None:
    assert read_context([(b"traceparent", value), (b"tracestate", b"a=1")]) is None


def test_two_traceparents_are_none() -> None:
    field = (b"traceparent", b"00-%s-%s-01" % (T, S))
    assert read_context([field, field]) is None


@pytest.mark.parametrize(
    ("value", "trace", "span", "sampled", "debug"),
    [
        (b"%s-%s-1-05e3ac9a4f6e3b90" % (T, S), T, S, True, False),
        (b"%s-%s-0" % (T, S), T, S, False, False),
        (b"%s-%s-d" % (T, S), T, S, True, True),
        (b"%s-%s" % (T, S), T, S, None, False),
        (b"%s-%s-1" % (S, S), b"0" * 16 + S, S, True, False),
        (b"0", b"", b"", False, False),
        (b"1", b"", b"", True, False),
        (b"d", b"", b"", True, True),
    ],
)
def test_b3_in_one_field_is_read(
    value: bytes, trace: bytes, span: bytes, sampled: bool | None, debug: bool
) -> None:
    context = read_context([(b"b3", value)])
    assert context is not None
    assert (context.forms, context.trace, context.span) == (B3, trace, span)
    assert (context.sampled, context.debug) == (sampled, debug)


@pytest.mark.parametrize("value", [b"", b"2", b"%s" % T, b"%s-%s-x" % (T, S), b"%s-%s" % (NONE, S), b"0-1"])
def test_a_malformed_b3_counts_as_absent(value: bytes) -> None:
    assert read_context([(b"b3", value)]) is None


@pytest.mark.parametrize(
    ("said", "sampled", "debug"),
    [
        ([(b"x-b3-sampled", b"1")], True, False),
        ([(b"x-b3-sampled", b"true")], True, False),
        ([(b"x-b3-sampled", b"0")], False, False),
        ([(b"x-b3-flags", b"1")], True, True),
        ([(b"x-b3-flags", b"0")], None, False),
        ([], None, False),
    ],
)
def test_b3_in_several_fields_is_read(said: Fields, sampled: bool | None, debug: bool) -> None:
    context = read_context([(b"x-b3-traceid", T), (b"x-b3-spanid", S), (b"x-b3-parentspanid", OWN), *said])
    assert context is not None
    assert (context.forms, context.trace, context.span) == (B3_MULTI, T, S)
    assert (context.sampled, context.debug) == (sampled, debug)


def test_a_decision_without_ids_is_one() -> None:
    context = read_context([(b"x-b3-sampled", b"0")])
    assert context is not None
    assert (context.forms, context.trace, context.sampled) == (B3_MULTI, b"", False)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"x-b3-traceid", T)],
        [(b"x-b3-spanid", S)],
        [(b"x-b3-traceid", T), (b"x-b3-traceid", T), (b"x-b3-spanid", S)],
        [(b"x-b3-traceid", T), (b"x-b3-spanid", T)],
        [(b"x-b3-traceid", T), (b"x-b3-spanid", S), (b"x-b3-sampled", b"maybe")],
        [(b"x-b3-parentspanid", S)],
        [(b"tracestate", b"a=1")],
    ],
)
def test_what_names_no_trace_counts_as_absent(fields: Fields) -> None:
    assert read_context(fields) is None


def test_the_first_form_counts_and_all_of_them_say_the_same_on() -> None:
    other = b"a" * 32
    came = [
        (b"b3", b"%s-%s-0" % (other, S)),
        (b"tracestate", b"vendor=1,x=2"),
        (b"traceparent", b"00-%s-%s-03" % (T, S)),
        (b"tracestate", b"y=3"),
    ]
    context = read_context(came)
    assert context is not None
    assert write_context(context, OWN, context.span) == [
        (b"traceparent", b"00-%s-%s-03" % (T, OWN)),
        (b"tracestate", b"vendor=1,x=2"),
        (b"tracestate", b"y=3"),
        (b"b3", b"%s-%s-1-%s" % (T, OWN, S)),
    ]


def test_a_short_trace_id_stays_short() -> None:
    context = read_context([(b"x-b3-traceid", S), (b"x-b3-spanid", S), (b"x-b3-flags", b"1")])
    assert context is not None
    assert write_context(context, OWN, S) == [
        (b"x-b3-traceid", S),
        (b"x-b3-spanid", OWN),
        (b"x-b3-parentspanid", S),
        (b"x-b3-flags", b"1"),
    ]


@given(traces, spans, spans, st.booleans(), st.booleans(), st.integers(1, 7))
def test_what_is_written_is_read_again_with_the_senders_span(
    trace: bytes, parent: bytes, own: bytes, sampled: bool, debug: bool, forms: int
) -> None:
    context = Context(forms, trace, parent, sampled or debug)
    context.debug = debug
    read = read_context(write_context(context, own, parent))
    assert read is not None
    assert (read.forms, read.trace, read.span, read.sampled) == (forms, trace, own, sampled or debug)
    assert read.debug == (debug and not forms & W3C)


@given(st.integers(0, (1 << 192) - 1), st.integers(1, 7))
def test_a_new_trace_that_is_not_sampled_is_understood_in_every_form(ids: int, forms: int) -> None:
    fields = write_refusal(forms, ids)
    for one in (W3C, B3, B3_MULTI):
        context = read_context([field for field in write_refusal(one, ids) if one & forms])
        assert (context is None) == (not one & forms)
        assert context is None or context.sampled is False
    read = read_context(fields)
    assert read is not None
    assert read.forms == forms


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"traceparent", b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled"]
            ),
            st.one_of(st.binary(max_size=60), st.from_regex(rb"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f-]{0,40}")),
        ),
        max_size=6,
    )
)
def test_nothing_a_client_sends_makes_ids_that_are_none(fields: Fields) -> None:
    context = read_context(fields)
    if context is not None and context.trace:
        assert len(context.trace) == 32
        assert context.trace.strip(b"0")
        assert len(context.span) == 16
        assert set(context.trace + context.span) <= set(b"0123456789abcdef")


@given(
    st.one_of(
        st.from_regex(_CLOSE_TO_ONE, fullmatch=True),
        st.binary(max_size=60),
        st.builds(
            lambda trace, span, flags: b"00-%b-%b-%02x" % (trace, span, flags),
            traces,
            spans,
            st.integers(0, 255),
        ),
    )
)
def test_the_quick_look_says_the_same_as_the_whole_reading(value: bytes) -> None:
    field = (b"traceparent", value)
    context = read_context([field])
    quick = says_no(field)
    if value[:2] == b"00" or context is None:
        assert quick == (context is not None and context.sampled is False)
    assert not says_no((b"b3", value))
