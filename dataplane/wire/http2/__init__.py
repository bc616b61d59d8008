"""HTTP/2 (RFC 9113) without input or output: bytes in, calls on a `Handler` out, frames to send collected.

`frames` knows the wire's numbers, `hpack` field blocks, `fields` what a field may be, `heads` what makes
a request, a response or trailers, `stream` one stream, `sender` and `connection` the two directions
of a connection, `bounds` its limits. `BadConnection` is the only exception that a peer's bytes can
cause here.
"""

from dataplane.wire.http2.connection import Connection
from dataplane.wire.http2.frames import PREFACE, BadConnection, Code
from dataplane.wire.http2.stream import Handler, Stream

__all__ = ["PREFACE", "BadConnection", "Code", "Connection", "Handler", "Stream"]
