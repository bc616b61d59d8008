"""hyper-h2 as the judge of HTTP/2 messages: what it finds in a peer's frames, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from dataplane.wire.http2.fields import Pair


@dataclass
class Message:
    """The final head of stream 1, its body and trailers; names and values as they came."""

    fields: list[Pair] = field(default_factory=list)
    body: bytes = b""
    trailers: list[Pair] = field(default_factory=list)
    interims: list[list[Pair]] = field(default_factory=list)
    ended: bool = False
    refused: str = ""


def read_request(frames: bytes) -> Message:
    """What a server makes of a client's frames, preface and SETTINGS included."""
    return _read(_connection(client=False), frames)


def read_response(method: bytes, frames: bytes) -> Message:
    """What a client that asked with `method` makes of a server's frames."""
    connection = _connection(client=True)
    head = [(b":method", method), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
    connection.send_headers(1, head, end_stream=True)
    return _read(connection, frames)


def _connection(*, client: bool) -> h2.connection.H2Connection:
    made = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding=None))
    made.initiate_connection()
    return made


def _read(connection: h2.connection.H2Connection, frames: bytes) -> Message:
    found = Message()
    try:
        for event in connection.receive_data(frames):
            if isinstance(event, (h2.events.RequestReceived, h2.events.ResponseReceived)):
                found.fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            elif isinstance(event, h2.events.InformationalResponseReceived):
                found.interims.append([(bytes(name), bytes(value)) for name, value in event.headers])
            elif isinstance(event, h2.events.DataReceived):
                found.body += event.data
            elif isinstance(event, h2.events.TrailersReceived):
                found.trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
            elif isinstance(event, h2.events.StreamEnded):
                found.ended = True
            elif isinstance(event, h2.events.StreamReset):
                found.refused = f"reset: {event.error_code}"
    except h2.exceptions.ProtocolError as error:
        found.refused = f"{type(error).__name__}: {error}"
    return found
