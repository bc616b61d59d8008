"""Container logs: one file per run of a container, a time stamp before each line, bounded in size.

Line format on disk (that of the container runtime interface): `<RFC 3339 time> <stdout|stderr> <F|P> <text>`,
P marking a line that was cut because it was too long. Knows nothing of pods.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from localmesh.streams.contract import LogOptions

MAX_LINE: Final = 16 * 1024
"""Bytes of one line before it is cut (the runtime interface cuts at 16 KiB as well)."""
MAX_FILE: Final = 8 * 1024 * 1024
"""Bytes of one log file before it is rotated to `.1`; one rotated file is kept."""
FOLLOW_POLL_S: Final = 0.1
BLOCK: Final = 64 * 1024


def timestamp(moment: datetime | None = None) -> str:
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


class LogWriter:
    """Appends the output of one run of a container."""

    def __init__(self, path: Path, max_bytes: int = MAX_FILE) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._max_bytes = max_bytes
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._partial: dict[str, bytes] = {}

    def feed(self, stream: str, data: bytes) -> None:
        """Take raw output; complete lines are written at once, the rest waits for its end."""
        stamp = timestamp().encode()
        pending = self._partial.pop(stream, b"") + data
        lines = pending.split(b"\n")
        rest = lines.pop()
        out = bytearray()
        for line in lines:
            out += _formatted(stamp, stream, line, final=True)
        while len(rest) > MAX_LINE:
            out += b"%s %s P %s\n" % (stamp, stream.encode(), rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        if rest:
            self._partial[stream] = rest
        self._write(bytes(out))

    def close(self) -> None:
        stamp = timestamp().encode()
        for stream, rest in self._partial.items():
            self._write(_formatted(stamp, stream, rest, final=True))
        self._partial.clear()
        self._file.close()

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        self._file.write(data)
        self._size += len(data)

    def _rotate(self) -> None:
        self._file.close()
        self._path.replace(rotated(self._path))
        self._file = self._path.open("ab", buffering=0)
        self._size = 0


def _formatted(stamp: bytes, stream: str, line: bytes, *, final: bool) -> bytes:
    pieces = [line[i : i + MAX_LINE] for i in range(0, len(line), MAX_LINE)] or [b""]
    last = len(pieces) - 1
    return b"".join(
        b"%s %s %s %s\n" % (stamp, stream.encode(), b"F" if final and i == last else b"P", piece)
        for i, piece in enumerate(pieces)
    )


def rotated(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def tail_text(path: Path, max_bytes: int = 2048) -> str:
    """The last output of a run, without stamps: what a termination message falls back to."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 2 * max_bytes))
        lines = file.read().splitlines(keepends=True)[-80:]
    text = b"".join(shown for line in lines if (shown := _shown(line, timestamps=False)) is not None)
    return text[-max_bytes:].decode(errors="replace")


def _shown(line: bytes, *, timestamps: bool) -> bytes | None:
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) != 4:
        return None  # the cut first line of a tail
    end = b"" if parts[2] == b"P" else b"\n"
    return (parts[0] + b" " if timestamps else b"") + parts[3] + end


async def read_log(path: Path, ended: asyncio.Event, options: LogOptions) -> AsyncIterator[bytes]:
    """Yield the log as a client sees it; with `follow` until `ended` is set and all is read."""
    left = options.limit_bytes
    async for text in _texts(path, ended, options):
        if left is not None and len(text) >= left:
            yield text[:left]
            return
        left = left - len(text) if left is not None else None
        yield text


async def _texts(path: Path, ended: asyncio.Event, options: LogOptions) -> AsyncIterator[bytes]:
    with ExitStack() as stack:
        parts = [part for part in (rotated(path), path) if part.exists()]
        files: list[BinaryIO] = [stack.enter_context(part.open("rb")) for part in parts]
        if options.tail is not None:
            files = _at_tail(files, options.tail)
        for file in files:
            while text := _next(file, options):
                if text.shown:
                    yield text.shown
                await asyncio.sleep(0)  # a long log is read between other work
        while options.follow and files:
            over = ended.is_set()
            text = _next(files[-1], options)
            if text is not None:
                if text.shown:
                    yield text.shown
            elif _replaced(path, files[-1]):
                files = [stack.enter_context(path.open("rb"))]
            elif over:
                return
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FOLLOW_POLL_S):
                        await ended.wait()


@dataclass(frozen=True, slots=True)
class _Text:
    shown: bytes
    """What is to be seen of a piece of the file, maybe nothing."""


def _next(file: BinaryIO, options: LogOptions) -> _Text | None:
    """The next whole lines, None when there are none (the writer writes whole lines only)."""
    lines = file.readlines(BLOCK)
    if not lines:
        return None
    since = timestamp(options.since.astimezone(UTC)).encode() if options.since is not None else b""
    pieces = (_selected(line, options, since) for line in lines)
    return _Text(b"".join(piece for piece in pieces if piece is not None))


def _selected(line: bytes, options: LogOptions, since: bytes) -> bytes | None:
    stamp, _, rest = line.partition(b" ")
    if stamp < since:  # stamps are all of one length and form, so they compare as text
        return None
    if options.output != "All" and not rest.startswith(options.output.lower().encode()):
        return None
    return _shown(line, timestamps=options.timestamps)


def _at_tail(files: list[BinaryIO], count: int) -> list[BinaryIO]:
    """Position the files so that `count` lines are left to be read; those before are dropped."""
    for index in range(len(files) - 1, -1, -1):
        count -= _seek_tail(files[index], count)
        if count <= 0:
            return files[index:]
    return files


def _seek_tail(file: BinaryIO, count: int) -> int:
    """Put the file `count` lines before its end; returns how many that really are."""
    end = file.seek(0, 2)
    if count == 0:
        return 0
    found, position = 0, end
    while position > 0:
        start = max(0, position - BLOCK)
        file.seek(start)
        block = file.read(position - start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            if start + at + 1 == end:
                continue  # the end of the last line
            found += 1
            if found == count:
                file.seek(start + at + 1)
                return found
        position = start
    file.seek(0)
    return found + (1 if end else 0)


def _replaced(path: Path, file: BinaryIO) -> bool:
    """Whether the log was rotated away under `file`."""
    try:
        return os.fstat(file.fileno()).st_ino != path.stat().st_ino
    except FileNotFoundError:  # the pod's directory is gone
        return False
