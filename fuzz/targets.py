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

with atheris.instrument_imports(include=["dataplane.wire", "localmesh.streams.spdy", "smi.policy"]):
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
        spdy,
    )
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"usage: python -m fuzz.targets {{{','.join(TARGETS)}}} [libFuzzer options]")
    seeds = CORPUS / name
    arguments = [sys.argv[0], *sys.argv[2:]]
    if seeds.is_dir():
        arguments.append(str(seeds))
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
