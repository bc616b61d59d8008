"""Channels in one WebSocket: the first byte of each message says which stream it belongs to. Pure.

Source: Kubernetes' `*.channel.k8s.io` subprotocols. Binary messages begin with the channel's number; the
base64 variants are text messages that begin with its decimal digit. From v4 on the error channel ends with a
Status object; v5 adds channel 255, whose one byte names a channel that the sender has finished with.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE: Final = 255


class ChannelError(ValueError):
    """A message that belongs to no channel."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One subprotocol and what it can say."""

    name: str
    base64: bool = False
    status: bool = True
    """The error channel carries a Status object; before v4 it was text, and only for failures."""
    half_close: bool = False
    """Channel 255 closes one direction of a stream."""


DIALECTS: Final = (
    Dialect("v5.channel.k8s.io", half_close=True),
    Dialect("v4.channel.k8s.io"),
    Dialect("v4.base64.channel.k8s.io", base64=True),
    Dialect("channel.k8s.io", status=False),
    Dialect("base64.channel.k8s.io", base64=True, status=False),
)
"""The newest first."""


def dialect_named(name: str | None) -> Dialect:
    """The dialect of a negotiated subprotocol; a client that named none means the oldest binary one."""
    return next((one for one in DIALECTS if one.name == name), DIALECTS[3])


def encode(dialect: Dialect, channel: int, payload: bytes) -> bytes:
    """The content of one message: binary, or ASCII text for a base64 dialect."""
    if dialect.base64:
        return b"%d" % channel + base64.b64encode(payload)
    return bytes((channel,)) + payload


def decode(dialect: Dialect, message: bytes) -> tuple[int, bytes]:
    """(channel, payload) of a message. Raises ChannelError."""
    if not message:
        raise ChannelError("an empty message names no channel")
    if not dialect.base64:
        return message[0], message[1:]
    if not 0x30 <= message[0] <= 0x39:
        raise ChannelError("the first character of a message is no channel number")
    try:
        return message[0] - 0x30, base64.b64decode(message[1:], validate=True)
    except binascii.Error as error:
        raise ChannelError(f"a message is not base64: {error}") from error
