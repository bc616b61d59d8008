"""The one exception that a peer's bytes can cause, with the answer it deserves."""

from __future__ import annotations

from enum import IntEnum


class Fault(IntEnum):
    """What is wrong with a message; the value is the status a server answers it with (RFC 9110 §15.5)."""

    BAD_REQUEST = 400
    TOO_LARGE = 431
    """RFC 6585 §5: the head exceeds what is accepted."""
    NOT_IMPLEMENTED = 501
    """RFC 9110 §15.6.2: a method that is not known here."""
    VERSION = 505


class BadMessage(Exception):  # noqa: N818 - says what the bytes are
    """The peer sent something that is not HTTP/1.1, or is too ambiguous or large to be passed on.

    Its text is fixed by us and holds nothing the peer sent. After it, the connection can only be
    closed: where the next message would begin is not known.
    """

    def __init__(self, text: str, fault: Fault = Fault.BAD_REQUEST) -> None:
        super().__init__(text)
        self.fault = fault
