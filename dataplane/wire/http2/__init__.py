"""HTTP/2 (RFC 9113) without input or output: bytes in, calls on a `Handler` out, frames to send collected.

`frames` knows the wire's numbers, `hpack` field blocks, `heads` what makes a request, a response or
trailers, `connection` streams, windows and limits. `BadConnection` is the only exception that a
peer's bytes can cause here.
"""

from dataplane.wire.http2.connection import Connection, Handler, Stream
from dataplane.wire.http2.frames import PREFACE, BadConnection, Code

__all__ = ["PREFACE", "BadConnection", "Code", "Connection", "Handler", "Stream"]
