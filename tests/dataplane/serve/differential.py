"""What we pass on, other people's parsers read as we did: the claim, for bytes that anybody may send.

Used by the tests and, for as long as one likes, by the fuzz targets.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.dataplane.serve import judges
from tests.dataplane.serve.relayed import relay_requests, relay_responses

MARK = b"HTTP/1.1 299 Mark\r\nContent-Length: 4\r\n\r\nmark"
"""The server's answer to the request behind the one in question: it must be seen as just that."""


def check_requests(data: bytes, step: int = 0) -> None:
    """A client's bytes: each server finds exactly the requests that were decided, whole, and no other."""
    passed = relay_requests(data, (step,) if step else ())
    for name, judge in judges.OF_REQUESTS.items():
        for server in passed.servers:
            verdict = judge(server.stream)
            found, expected = verdict.messages, server.requests
            if _MATTERS_OF_TASTE[name](verdict.refused):
                expected = expected[: len(found)]
            else:
                # A request that was cut off was not passed on, whatever its beginning is called.
                assert not verdict.refused or server.cut, (name, verdict, server)
            assert found == expected, (name, verdict, server)


_MATTERS_OF_TASTE: dict[str, Callable[[str], bool]] = {
    "h11": lambda refused: "illegal request line" in refused and "\\x" in refused,  # raw bytes in the query
    "llhttp": lambda refused: refused == "Invalid char in url query",  # the same
    "aiohttp": lambda refused: "Duplicate '" in refused,  # of fields that are about nothing but content
    "http.server": lambda refused: (
        "coding" in refused or ("Bad request syntax" in refused and "\\x" in refused)
    ),
}
"""Sound requests that a parser refuses: nothing is read differently. http.server knows no codings."""


def check_response(method: bytes, answer: bytes, step: int = 1 << 20) -> None:
    """A server's bytes: the client finds one answer to each request, ends where we said, and nothing more."""
    methods = (method, b"GET")
    returned = relay_responses(methods, (answer, MARK), step)
    verdicts = {}
    cut = any(reason == "truncated" for _, reason in returned.outcomes)
    for name, judge in judges.OF_RESPONSES.items():
        if (name == "llhttp" and method == b"HEAD") or (name == "http.client" and cut):
            continue  # llhttp cannot be told, http.client takes the beginning of a last chunk for it
        # What is cut off ends in a reset.
        verdict = verdicts[name] = judge(returned.stream, methods, returned.closed and not cut)
        assert not verdict.refused or cut, (name, verdict, returned)
    complete = sum(count for (_, reason), count in returned.outcomes.items() if reason != "truncated")
    first = verdicts["h11"].messages
    assert len(first) == complete, ("count", first, returned)
    for name, verdict in verdicts.items():
        found = verdict.messages
        if name == "llhttp" and returned.closed and len(found) + 1 == len(first):
            assert found == first[:-1], (name, found, first, returned)  # it was not told of the end
        else:
            assert found == first, (name, found, first, returned)
