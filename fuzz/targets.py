"""What is fuzzed: each target takes bytes that a peer could have sent and lets one exception type out.

Usage: python -m fuzz.targets NAME [libFuzzer options]; `make fuzz` runs all of them. Beyond "no
other exception" a target checks what makes its codec safe: pieces are invisible, what is written
reads the same, what was decoded encodes to what decodes the same.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import atheris  # type: ignore[import-not-found]  # dependency group `fuzz`, not installed for `make check`

with atheris.instrument_imports(
    include=[
        "dataplane.core.answer",
        "dataplane.core.traces",
        "dataplane.serve.http_client",
        "dataplane.serve.http_server",
        "dataplane.state",
        "dataplane.wire",
        "localmesh.streams.spdy",
        "smi.policy",
    ]
):
    from controller.discovery.protocol import ProtocolError
    from controller.discovery.protocol import parse as parse_message
    from dataplane.core.answer import grpc_timeout
    from dataplane.core.traces import read_context, trace_of, write_context
    from dataplane.state import State
    from dataplane.wire.authority import parse_authority, split_absolute
    from dataplane.wire.body import Chunked
    from dataplane.wire.client_hello import server_name
    from dataplane.wire.datagrams import Decoder
    from dataplane.wire.errors import BadMessage
    from dataplane.wire.http1 import parse_request, parse_response, write_request, write_response
    from dataplane.wire.http2.frames import PREFACE
    from dataplane.wire.http2.hpack import MAX_TABLE, Reader, Writer
    from dataplane.wire.inbox import Inbox
    from dataplane.wire.sniff import guess, sniff
    from localmesh.streams import spdy as frames
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
    from smi.policy.path import BadTarget, normalise_target


from fuzz.http2 import feed
from tests.dataplane.serve import differential, differential_http2, tricks

CORPUS = Path(__file__).parent / "corpus"


def http1_request(data: bytes) -> None:
    try:
        head = parse_request(data)
    except BadMessage:
        return
    again = parse_request(write_request(head, b""))
    assert (again.method, again.target, again.host) == (head.method, head.target, head.host)
    assert again.content_length == head.content_length
    assert again.fields == head.fields


def http1_response(data: bytes) -> None:
    try:
        head = parse_response(data)
    except BadMessage:
        return
    again = parse_response(write_response(head))
    assert (again.status, again.content_length, again.fields) == (
        head.status,
        head.content_length,
        head.fields,
    )


def body(data: bytes) -> None:
    """The first byte says how large the pieces are."""
    step = (data[0] if data else 0) % 7 + 1
    whole, pieces = Chunked(decode=True), Chunked(decode=True)
    data = data[1:]
    try:
        taken: int | None = whole.take(data)
    except BadMessage:
        taken = None
    total = 0
    with contextlib.suppress(BadMessage):
        for at in range(0, len(data), step):
            total += pieces.take(data[at : at + step])
            if pieces.done:
                break
        assert taken == total
        assert (whole.done, whole.decoded()) == (pieces.done, pieces.decoded())
        return
    assert taken is None


def inbox(data: bytes) -> None:
    """The first byte says how large the pieces are."""
    step = (data[0] if data else 0) % 13 + 1
    assert _heads(data[1:], step) == _heads(data[1:], len(data) or 1)


def _heads(data: bytes, step: int) -> list[tuple[bytes, bytes]]:
    """The requests before the first that is refused."""
    box, found = Inbox(), []
    try:
        for at in range(0, len(data), step):
            box.add(data[at : at + step])
            while (head := box.head()) is not None:
                request = parse_request(head)
                found.append((request.method, request.target))
    except BadMessage:
        pass
    return found


def http2_server(data: bytes) -> None:
    feed(PREFACE + data, server=True)


def http2_client(data: bytes) -> None:
    feed(data, server=False)


def hpack(data: bytes) -> None:
    """What is read, written and read again is the same; no table outgrows its size."""
    reader, writer, next_hop = Reader(16384), Writer(), Reader(1 << 20)
    with contextlib.suppress(BadMessage):
        for _ in range(2):
            block = reader.read(data)
            assert reader._size == sum(size for _, _, size in reader._table) <= MAX_TABLE
            for _ in range(2):
                again = next_hop.read(writer.write(block.plain, block.secret))
                assert (again.plain, again.special) == (block.plain, [])
                assert block.secret.intersection(name for name, _ in block.plain) <= again.secret


def spdy(data: bytes) -> None:
    """The first byte says how large the pieces are. What was read is written and read again the same."""
    step = (data[0] if data else 0) % 13 + 1
    found = _frames(data[1:], step)
    assert found == _frames(data[1:], len(data) or 1)
    known = [frame for frame in found if not isinstance(frame, frames.Unknown)]
    encoder, decoder = frames.Encoder(), frames.Decoder()
    assert [frame for one in known for frame in decoder.feed(encoder.encode(one))] == known


def _frames(data: bytes, step: int) -> list[frames.Frame]:
    """The frames before the first that is refused."""
    decoder, found = frames.Decoder(), []
    with contextlib.suppress(frames.SpdyError):
        for at in range(0, len(data), step):
            for frame in decoder.feed(data[at : at + step]):
                found.append(frame)  # noqa: PERF402 - what was read before an error counts
    return found


def names(data: bytes) -> None:
    with contextlib.suppress(BadMessage):
        parse_authority(data)
    with contextlib.suppress(BadMessage):
        split_absolute(data)
    sniff(data)
    guess(data)


def path(data: bytes) -> None:
    try:
        normal, query = normalise_target(data)
    except BadTarget:
        return
    assert normalise_target(normal + query) == (normal, query)
    assert b"/../" not in normal
    assert b"//" not in normal


def datagrams(data: bytes) -> None:
    decoder = Decoder()
    with contextlib.suppress(BadMessage):
        for at in range(0, len(data), 5):
            list(decoder.feed(data[at : at + 5]))


def codec(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    for decode, encode in (
        (decode_inbound, encode_inbound),
        (decode_destination, encode_destination),
        (decode_cluster, encode_cluster),
        (decode_breaker, encode_breaker),
    ):
        try:
            decoded = decode(value)
        except CodecError:
            continue
        assert decode(encode(decoded)) == decoded  # type: ignore[arg-type,operator]  # the pairs belong together


def hello(data: bytes) -> None:
    """More bytes never change a name that was found, and a name is one."""
    ends = sorted({*range(min(len(data), 8)), len(data) // 2, len(data)})
    found = [server_name(data[:end]) for end in ends]
    known = [name for name in found if name is not None]
    assert len(set(known)) <= 1, known
    assert all(name is None for name in found[: len(found) - len(known)])
    for name in known:
        assert name == name.lower()
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789.-_")


def traces(data: bytes) -> None:
    """Lines of fields that are about a trace. What is written of a context is the same context."""
    names = (
        b"traceparent",
        b"tracestate",
        b"b3",
        b"x-b3-traceid",
        b"x-b3-spanid",
        b"x-b3-sampled",
        b"x-b3-flags",
    )
    fields = [(names[line[0] % len(names)], line[1:]) for line in data.split(b"\n") if line]
    trace_of(dict(fields).get)
    context = read_context(fields)
    if context is None or not context.trace:
        return
    context.sampled = bool(context.sampled or context.debug)
    again = read_context(write_context(context, b"1" * 16, context.span))
    assert again is not None
    assert (again.trace, again.span, again.sampled) == (context.trace, b"1" * 16, context.sampled)


def timeout(data: bytes) -> None:
    seconds = grpc_timeout(data)
    assert seconds is None or 0 <= seconds < 1e12


def discovery(data: bytes) -> None:
    """Lines of a sidecar, and of a controller: one that is refused changes nothing."""
    state = State(0)
    for line in data.split(b"\n"):
        with contextlib.suppress(ProtocolError):
            parse_message(line)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(message, dict):
            continue
        before = (state.revision, state.inbound, state.subscriptions)
        try:
            state.apply(message)
        except CodecError:
            assert (state.revision, state.inbound, state.subscriptions) == before


def relayed(data: bytes) -> None:
    """A client's bytes through the proxy: other parsers find the requests that were decided."""
    differential.check_requests(data[1:], (0, 1, 7)[data[0] % 3] if data else 0)


def relayed_requests(data: bytes) -> None:
    """The same, of messages that a grammar of tricks puts together."""
    differential.check_requests(tricks.requests(data[1:]), (0, 1, 7)[data[0] % 3] if data else 0)


def relayed_responses(data: bytes) -> None:
    differential.check_response(*tricks.response(data[1:]), (1 << 20, 1, 7)[data[0] % 3] if data else 1)


def relayed_streams(data: bytes) -> None:
    """The same over HTTP/2, with hyper-h2 as the judge: requests, and answers."""
    differential_http2.check_request(tricks.http2_request(data))


def answered_streams(data: bytes) -> None:
    differential_http2.check_response(*tricks.http2_response(data))


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        http1_request,
        http1_response,
        body,
        inbox,
        http2_server,
        http2_client,
        hpack,
        names,
        path,
        datagrams,
        hello,
        codec,
        discovery,
        traces,
        timeout,
        spdy,
        relayed,
        relayed_requests,
        relayed_responses,
        relayed_streams,
        answered_streams,
    )
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"usage: python -m fuzz.targets {{{','.join(TARGETS)}}} [libFuzzer options]")
    seeds = CORPUS / name
    # libFuzzer calls itself by the first, for instance to choose from a corpus (-merge=1).
    arguments = [f"{sys.executable} -m fuzz.targets {name}", *sys.argv[2:]]
    if seeds.is_dir() and "-merge=1" not in arguments:
        arguments.append(str(seeds))
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
