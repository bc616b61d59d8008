"""Field blocks against RFC 7541's own examples and against jh2's native coder as the judge."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jh2._hazmat import Decoder, Encoder

from dataplane.wire.http2 import BadConnection, Code, hpack
from dataplane.wire.http2.fields import MALFORMED, Pair
from dataplane.wire.http2.hpack import Block, Reader, Writer

NAMES = st.sampled_from([b":path", b"cookie", b"x-a", b"content-type", b"date", b"authorization", b"x" * 90])
VALUES = st.one_of(
    st.sampled_from([b"", b"a", b"/", b"200", b"y" * 130, b"z" * 3000]), st.binary(max_size=40)
)
LISTS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=12), min_size=1, max_size=12)


def pairs(block: Block) -> list[Pair]:
    return sorted([*block.plain, *(entry[0] for entry in block.special)])


def sent(fields: list[Pair]) -> list[Pair]:
    """As the reader gives them: a pseudo-header field behind a plain one is only marked as such."""
    plain = [b":path", b"cookie"]
    late, found = False, []
    for name, value in fields:
        late = late or (name not in plain and bool(hpack.judge((name, value))[1] == 0))
        found.append((b"", b"") if late and name == b":path" and _sound(name, value) else (name, value))
    return sorted(found)


def _sound(name: bytes, value: bytes) -> bool:
    return hpack.judge((name, value))[1] != MALFORMED


@given(LISTS, st.booleans())
def test_what_the_judge_writes_is_read(lists: list[list[Pair]], huffman: bool) -> None:
    encoder, reader = Encoder(), Reader(1 << 20)
    for fields in lists:
        block = encoder.encode([(*field, False) for field in fields], huffman)
        assert pairs(reader.read(block)) == sent(fields)


@given(LISTS, st.lists(st.integers(0, 5000), max_size=4))
def test_what_is_written_the_judge_reads(lists: list[list[Pair]], sizes: list[int]) -> None:
    """Also when the peer changes the size of its table meanwhile."""
    writer, decoder = Writer(), Decoder(1 << 20)
    for fields in [*lists, *lists]:
        if sizes:
            writer.limit_table(sizes.pop())
            writer.limit_table(sizes.pop() if sizes else 4096)
        assert [field[:2] for field in decoder.decode(writer.write(fields), True)] == fields


@given(LISTS)
def test_both_halves_agree(lists: list[list[Pair]]) -> None:
    writer, reader = Writer(), Reader(1 << 20)
    for fields in [*lists, *lists, *lists]:
        assert pairs(reader.read(writer.write(fields))) == sent(fields)


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_block_is_read_as_the_judge_does_or_refused(blocks: list[bytes]) -> None:
    """What is read here must be what others read; to refuse more is allowed."""
    reader, decoder = Reader(1 << 20), Decoder(1 << 20)
    with contextlib.suppress(BadConnection):
        for block in blocks:
            read = reader.read(block)  # refuses what is cut off, which makes the judge panic
            judged = [(name, value) for name, value, _ in decoder.decode(block, True)]
            late = [entry for entry in read.special if entry[0] == (b"", b"")]
            assert len(pairs(read)) == len(judged)
            assert late or pairs(read) == sorted(judged)


def test_examples_of_rfc_7541() -> None:
    """Appendix C.4: three requests with Huffman codes; the second and third lean on the table."""
    reader = Reader(65536)
    common = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ]
    first = reader.read(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))
    assert [entry[0] for entry in first.special] == common
    second = reader.read(bytes.fromhex("828684be5886a8eb10649cbf"))
    assert ([entry[0] for entry in second.special], second.plain) == (
        common,
        [(b"cache-control", b"no-cache")],
    )
    third = reader.read(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))
    assert third.plain == [(b"custom-key", b"custom-value")]
    assert third.special[1][0] == (b":scheme", b"https")


def test_secrets_stay_out_of_tables_and_are_marked_for_the_next_hop() -> None:
    writer, reader = Writer(), Reader(65536)
    fields = [(b"authorization", b"Bearer x"), (b"x-key", b"k"), (b"x-plain", b"y")]
    for _ in range(3):
        block = writer.write(fields, frozenset({b"x-key"}))
        assert b"Bearer x" in block
        assert b"\x01k" in block
        assert reader.read(block).secret == {b"authorization", b"x-key"}
    assert b"\x01y" not in block  # others come to be indexed


def test_a_field_that_was_indexed_is_not_once_it_is_secret() -> None:
    writer, reader = Writer(), Reader(65536)
    for _ in range(3):
        reader.read(writer.write([(b"x-key", b"k")]))
    assert reader.read(writer.write([(b"x-key", b"k")], frozenset({b"x-key"}))).secret == {b"x-key"}


def test_only_what_comes_again_enters_the_table() -> None:
    writer = Writer()
    sizes = [len(writer.write([(b"x-id", b"%030d" % turn), (b"x-same", b"s" * 30)])) for turn in range(9)]
    assert sizes[2] < sizes[0] - 30
    assert all(later <= earlier for earlier, later in pairwise(sizes))
    assert not any(b"%030d" % turn in pair for turn in range(9) for pair in writer._table)


def test_tables_stay_within_their_size() -> None:
    encoder, reader, writer = Encoder(), Reader(1 << 20), Writer()
    for turn in range(300):
        fields = [(b"x-%d" % (turn % 7), b"v" * (turn * 37 % 900))]
        reader.read(encoder.encode([(*field, False) for field in fields], True))
        writer.write(fields)
        writer.write(fields)
        for size, table in (
            (reader._size, [entry[0] for entry in reader._table]),
            (writer._size, writer._table),
        ):
            assert size == sum(len(name) + len(value) + 32 for name, value in table) <= hpack.MAX_TABLE
    assert len(writer._known) == len(writer._table) + len(hpack._STATIC_PAIRS)
    assert len(writer._names) <= len(writer._table)


def test_what_is_remembered_is_bounded_and_holds_no_secret() -> None:
    encoder, reader = Encoder(), Reader(1 << 24)
    for turn in range(3 * hpack._MOST_REMEMBERED):
        reader.read(encoder.add((b"x-many", b"%d" % turn), False, True))
    reader.read(encoder.encode([(b"authorization", b"Bearer q7", False), (b"cookie", b"c=q8", False)], False))
    assert len(hpack._REMEMBERED) <= hpack._MOST_REMEMBERED
    assert not any(b"q7" in key or b"q8" in key for key in hpack._REMEMBERED)


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ("80", Code.COMPRESSION_ERROR),  # index 0
        ("be", Code.COMPRESSION_ERROR),  # an empty table's first entry
        ("ffffffffffff7f", Code.COMPRESSION_ERROR),  # a number without end
        ("ff8080808080808000", Code.COMPRESSION_ERROR),  # the same, padded with nothing
        ("ff", Code.COMPRESSION_ERROR),  # cut off
        ("40", Code.COMPRESSION_ERROR),
        ("4001", Code.COMPRESSION_ERROR),
        ("400161", Code.COMPRESSION_ERROR),
        ("40016105", Code.COMPRESSION_ERROR),
        ("7e0161", Code.COMPRESSION_ERROR),  # a name that is not in the table
        ("8220", Code.COMPRESSION_ERROR),  # a size update behind a field
        ("3fe21f", Code.COMPRESSION_ERROR),  # 4097 bytes
        ("0001618100", Code.COMPRESSION_ERROR),  # padding of a code that is not made of ones
        ("00016184ffffffff", Code.COMPRESSION_ERROR),  # EOS inside a string
    ],
)
def test_blocks_that_end_a_connection(block: str, code: Code) -> None:
    with pytest.raises(BadConnection) as error:
        Reader(65536).read(bytes.fromhex(block))
    assert error.value.code is code


def test_a_list_that_unfolds_from_few_bytes_ends_the_connection() -> None:
    reader = Reader(131072)
    reader.read(Encoder().encode([(b"x-bomb", b"b" * 3900, False)], False))
    with pytest.raises(BadConnection) as error:
        reader.read(b"\xbe" * 40)
    assert error.value.code is Code.ENHANCE_YOUR_CALM
