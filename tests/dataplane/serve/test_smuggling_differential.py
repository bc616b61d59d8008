"""What one parser reads differently from another, we do not pass on: four others are asked.

`tricks` puts the messages together, `differential` says what must hold. The long form is
`make fuzz FUZZ_TARGETS="relayed_requests relayed_responses"`.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.dataplane.serve import tricks
from tests.dataplane.serve.differential import check_requests, check_response
from tests.dataplane.serve.relayed import relay_requests, relay_responses

CHOICES = st.binary(min_size=1, max_size=40)
STEPS = st.sampled_from([0, 1, 7])
UPGRADE = b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
TARGET = b"POST / HTTP/1.1\r\n"


@settings(max_examples=300)
@given(CHOICES, STEPS)
def test_servers_find_the_requests_that_were_decided(choices: bytes, step: int) -> None:
    check_requests(tricks.requests(choices), step)


@settings(max_examples=100)
@given(st.binary(max_size=60).map(lambda data: CHUNKED + data), STEPS)
@example(CHUNKED + b"0\r\rGET /smuggled HTTP/1.1\r\rHost: a\r\r", 0)
def test_servers_find_the_end_of_a_body(data: bytes, step: int) -> None:
    check_requests(data, step)


@settings(max_examples=200)
@given(CHOICES, st.sampled_from([1 << 20, 1, 7]))
def test_clients_find_the_answers_that_were_given(choices: bytes, step: int) -> None:
    check_response(*tricks.response(choices), step)


CORPUS = Path(__file__).parents[3] / "fuzz" / "corpus"


@pytest.mark.parametrize("target", ["relayed", "relayed_requests", "relayed_responses"])
def test_what_fuzzing_found_new_ways_with(target: str) -> None:
    """The corpus of the long form."""
    inputs = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    assert len(inputs) > 3
    for data in inputs:
        if target == "relayed":
            check_requests(data[1:])
        elif target == "relayed_requests":
            check_requests(tricks.requests(data[1:]))
        else:
            check_response(*tricks.response(data[1:]))


# What the properties found, each once.


@pytest.mark.parametrize(
    "data",
    [
        TARGET + UPGRADE + b"Content-Length: 5\r\n\r\nhello",
        TARGET + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_body_is_no_protocol_to_upgrade_to(data: bytes) -> None:
    check_requests(data + tricks.requests(b""))
    ((reached,),) = [relay_requests(data).servers]
    assert [request.body for request in reached.requests] == [b"hello"]


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("status", [b"103 Early Hints", b"204 No Content", b"304 Not Modified"])
def test_an_answer_without_a_body(status: bytes, framing: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\n" + framing + b"\r\n\r\n"
    if status.startswith(b"103"):
        answer += b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    check_response(b"GET", answer)
    returned = relay_responses((b"GET", b"GET"), (answer, answer))
    assert {reason for _, reason in returned.outcomes} == {""}


def test_the_properties_are_about_something() -> None:
    """Enough of what the grammar makes is passed on, and enough is not."""
    random = Random(1)
    passed = [relay_requests(tricks.requests(random.randbytes(20))) for _ in range(200)]
    requests = [request for one in passed for reached in one.servers for request in reached.requests]
    assert len(requests) > 50
    assert sum(bool(request.body) for request in requests) > 30
    assert sum(one.refused for one in passed) > 40
