"""Writes the seed corpus: `python -m fuzz.seeds`. What it writes is checked in."""

from __future__ import annotations

import json
from pathlib import Path

from dataplane.wire.http2.frames import frame, settings
from dataplane.wire.http2.hpack import Writer
from localmesh.streams import spdy
from smi.policy.codec import encode_cluster, encode_destination, encode_inbound
from smi.policy.snapshot import Backend, Destination, Endpoint, Grant, Inbound, PortSet, Protocol, Split

_WRITER = Writer()
_BLOCK = _WRITER.write(
    [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/a"),
        (b"x", b"y" * 40),
    ]
)
_ANSWER = Writer().write([(b":status", b"200"), (b"content-length", b"1")])

_SPDY = spdy.Encoder()

_NAMES = b"\0\0\0\x0c\0\x0a\0\0\x07db.shop" + b"\0\x2b\0\3\2\3\4"
_HELLO = b"\3\3" + bytes(32) + b"\0\0\2\x13\1\1\0" + len(_NAMES).to_bytes(2) + _NAMES
_RECORD = b"\1" + len(_HELLO).to_bytes(3) + _HELLO

SEEDS: dict[str, tuple[bytes, ...]] = {
    "http1_request": (
        b"GET /a?b HTTP/1.1\r\nHost: a:80\r\nX: y\r\n\r\n",
        b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\nConnection: keep-alive, x\r\nX: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1]:1\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
    ),
    "http1_response": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nSet-Cookie: a=b\r\n\r\n",
        b"HTTP/1.1 200 \r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.0 404\r\n\r\n",
    ),
    "body": (b"\x01" + b"1;a=b\r\nx\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nNEXT", b"\x030\r\n\r\n"),
    "inbox": (b"\x02\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\nrest",),
    "http2_server": (
        settings([(3, 100), (4, 1000)]) + frame(1, 4, 1, _BLOCK) + frame(0, 1, 1, b"body"),
        settings([])
        + frame(1, 0, 1, _BLOCK[:9])
        + frame(9, 4, 1, _BLOCK[9:])
        + frame(3, 0, 1, b"\0\0\0\x08"),
        settings([]) + frame(6, 0, 0, b"12345678") + frame(8, 0, 0, b"\0\0\1\0") + frame(7, 0, 0, b"\0" * 8),
    ),
    "http2_client": (
        settings([(1, 0)]) + frame(4, 1, 0) + frame(1, 4, 1, _ANSWER) + frame(0, 1, 1, b"x"),
        settings([]) + frame(1, 5, 1, _ANSWER[:1]) + frame(7, 0, 0, b"\0" * 8),
    ),
    "hpack": (_BLOCK, _ANSWER, b"\x3f\xe1\x1f\x82", b"\x40\x01a\x01b\xbe"),
    "spdy": (
        b"\3"
        + _SPDY.encode(spdy.SynStream(1, {"streamtype": "error", "port": "80"}))
        + _SPDY.encode(spdy.Ping(1)),
        b"\1" + spdy.Encoder().encode(spdy.Data(3, b"hello", fin=True)) + _SPDY.encode(spdy.RstStream(3, 5)),
        b"\7" + spdy.Encoder().encode(spdy.SynReply(1, {})) + _SPDY.encode(spdy.GoAway(1, 1)),
    ),
    "names": (b"api.shop:8080", b"[::1]:80", b"http://a:1/b?c", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"),
    "path": (b"/a/../b//c?d=/../", b"/%61%2f%2e%2E/x", b"*", b"/a;b/\xc0\xaf", b"/%252e"),
    "datagrams": (b"\0\0\0\1\0\2\0ab" + b"\0\0\0\1\0\0\1",),
    "discovery": (
        b'{"type":"hello","protocol":1,"pod":"a/b","version":"1","subscriptions":["a:80"]}\n{"type":"ack","revision":1}',
        b'{"type":"nack","revision":1,"error":"x"}\n{"type":"subscribe","keys":["a:80"]}\n{"type":"ping"}',
        json.dumps(
            {
                "type": "update",
                "revision": 1,
                "full": True,
                "resources": {
                    "inbound": encode_inbound(Inbound("a/b", "spiffe://a/b")),
                    "cluster/a/c:80": encode_cluster((Endpoint("10.0.0.1", 80, "a/b", "spiffe://a/b"),)),
                },
                "removed": ["cluster/a/d:80"],
            }
        ).encode(),
    ),
    "traces": (
        b"\x00" + b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01\n\x01a=b",
        b"\x02" + b"1" * 16 + b"-" + b"2" * 16 + b"-d\n",
        b"\x03" + b"1" * 32 + b"\n\x04" + b"2" * 16 + b"\n\x05true\n\x061",
    ),
    "timeout": (b"1S", b"99999999H", b"5n"),
    "relayed": (
        b"\0POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nX: y\r\n\r\n",
        b"\1GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        b"\2PUT http://a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nhost:a\r\n\r\n",
    ),
    "relayed_requests": (bytes(20), bytes(range(0, 240, 12)), bytes(range(240, 0, -12))),
    "relayed_responses": (bytes(20), bytes(range(0, 240, 12)), bytes(range(240, 0, -12))),
    "relayed_streams": (bytes(20), bytes(range(0, 240, 12)), bytes(range(240, 0, -12))),
    "answered_streams": (bytes(20), bytes(range(0, 240, 12)), bytes(range(240, 0, -12))),
    "hello": (
        b"\x16\3\1" + len(_RECORD).to_bytes(2) + _RECORD,
        b"\x16\3\1\0\7" + _RECORD[:7] + b"\x16\3\3" + (len(_RECORD) - 7).to_bytes(2) + _RECORD[7:],
    ),
    "codec": tuple(
        json.dumps(value).encode()
        for value in (
            encode_inbound(
                Inbound(
                    "a/b", "spiffe://a/b", grants=(Grant("a/t", frozenset({"x"}), tcp=PortSet(every=True)),)
                )
            ),
            encode_destination(
                Destination(
                    "a/b", 80, Protocol.HTTP, "a/b:80", (Split("a/s", None, (Backend("a/c", 1, "a/c:80"),)),)
                )
            ),
            encode_cluster((Endpoint("10.0.0.1", 80, "a/b", "spiffe://a/b"), Endpoint("::1", 1))),
        )
    ),
}


def main() -> None:
    for name, seeds in SEEDS.items():
        folder = Path(__file__).parent / "corpus" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (folder / f"seed-{number}").write_bytes(seed)


if __name__ == "__main__":
    main()
