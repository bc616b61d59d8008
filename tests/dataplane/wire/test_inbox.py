"""Heads and bodies are the same however their bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire.body import Length
from dataplane.wire.errors import BadMessage
from dataplane.wire.inbox import Inbox

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def test_pieces() -> None:
    inbox = Inbox()
    assert inbox.head() is None
    assert not inbox.begun
    inbox.add(b"GET")
    assert inbox.head() is None
    assert inbox.begun
    inbox.add(b" /\r\n\r\nrest")
    assert inbox.head() == b"GET /\r\n\r\n"
    assert not inbox.begun
    assert len(inbox) == 4
    assert inbox.body(Length(3)) == b"res"
    assert inbox.rest() == b"t"
    assert len(inbox) == 0


@given(st.lists(st.binary(max_size=9), max_size=5), st.integers(0, 2), st.integers(1, 11))
def test_messages_come_out_as_they_went_in(bodies: list[bytes], blanks: int, step: int) -> None:
    stream = b"".join(b"\r\n" * blanks + HEAD % len(body) + body for body in bodies)
    inbox, found = Inbox(), []
    body: Length | None = None
    for at in range(0, len(stream), step):
        inbox.add(stream[at : at + step])
        while True:
            if body is None:
                head = inbox.head()
                if head is None:
                    break
                body = Length(int(head.split()[-1]))
                found.append((head, b""))
            head, got = found.pop()
            found.append((head, got + inbox.body(body)))
            if not body.done:
                break
            body = None
    assert found == [(HEAD % len(body), body) for body in bodies]
    assert not inbox.rest()


def test_broken_heads_are_refused_at_once() -> None:
    inbox = Inbox()
    inbox.add(b"GET / HTTP/1.1\r")
    assert inbox.head() is None
    inbox.add(b"\nHost: a\n")
    with pytest.raises(BadMessage):
        inbox.head()
