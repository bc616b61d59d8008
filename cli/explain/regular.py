"""What patterns mean, not how they are written: automata, asked for a text that tells them apart.

Pure. A pattern of RE2's becomes a nondeterministic automaton over bytes (Thompson's construction); questions
about several ("is there a path that this one takes and that one does not?") are answered by walking their
subsets side by side, shortest text first, within the paths or header values there can be. Not looked into are
word boundaries, multi-line anchors, Unicode classes and letters beyond ASCII; these, and automata that grow
too large, raise UnknownError: the answer is not known then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final

MAX_NODES: Final = 6000
"""Of one automaton; a repetition counts as often as it repeats."""
MAX_STEPS: Final = 30_000
"""Of one walk: transitions that are looked at."""

_ALL: Final = (1 << 256) - 1
_LINE_FEED: Final = 1 << 10


class UnknownError(Exception):
    """The pattern says something that is not looked into, or there is too much to look at."""


class Reading(Enum):
    """How a pattern is held against a text."""

    BEGINNING = 0
    """From its start on, as SMI says of paths (S16)."""
    WHOLE = 1
    ANYWHERE = 2
    """As SMI says of header values."""


@dataclass(slots=True)
class Machine:
    """A nondeterministic automaton. Nodes are numbers; sets of bytes are 256-bit masks."""

    moves: list[list[tuple[int, int]]] = field(default_factory=list)
    """Of each node: (bytes, next node)."""
    free: list[list[tuple[int, str]]] = field(default_factory=list)
    """Of each node: (next node, what must hold: "" or `^` at the start or `$` at the end)."""
    start: int = 0
    final: int = 0
    _subsets: dict[tuple[bool, frozenset[int]], int] = field(default_factory=dict)
    _known: list[tuple[bool, frozenset[int]]] = field(default_factory=list)
    _onward: dict[tuple[int, int], int] = field(default_factory=dict)
    _takes: dict[int, bool] = field(default_factory=dict)

    def begin(self) -> int:
        """The subset before any byte; subsets are numbered as they are found."""
        return self._number(True, frozenset((self.start,)))

    def onward(self, subset: int, byte: int) -> int:
        """The subset after one more byte; -1 if there is none."""
        key = subset, byte
        found = self._onward.get(key)
        if found is None:
            first, nodes = self._known[subset]
            stepped = self._step(self._closure(nodes, first=first, last=False), byte)
            found = self._onward[key] = self._number(False, stepped) if stepped else -1
        return found

    def ends(self, subset: int) -> bool:
        """Whether a text that leads here is taken."""
        found = self._takes.get(subset)
        if found is None:
            first, nodes = self._known[subset]
            found = self._takes[subset] = self.final in self._closure(nodes, first=first, last=True)
        return found

    def _number(self, first: bool, nodes: frozenset[int]) -> int:
        # Only at the start does `^` hold, so that the same nodes there are another subset.
        number = self._subsets.setdefault((first, nodes), len(self._known))
        if number == len(self._known):
            self._known.append((first, nodes))
        return number

    def node(self) -> int:
        if len(self.moves) >= MAX_NODES:
            raise UnknownError("the pattern is too large to be looked into")
        self.moves.append([])
        self.free.append([])
        return len(self.moves) - 1

    def _closure(self, nodes: frozenset[int], *, first: bool, last: bool) -> frozenset[int]:
        """These and what is reached from them without a byte."""
        found, left = set(nodes), list(nodes)
        while left:
            for node, guard in self.free[left.pop()]:
                held = guard == "" or (first if guard == "^" else last)
                if held and node not in found:
                    found.add(node)
                    left.append(node)
        return frozenset(found)

    def _step(self, nodes: frozenset[int], byte: int) -> frozenset[int]:
        bit = 1 << byte
        return frozenset(to for node in nodes for mask, to in self.moves[node] if mask & bit)


@lru_cache(maxsize=512)
def machine(pattern: str, reading: Reading) -> Machine:
    """The automaton of all texts that a pattern takes, held against them in this way. Raises UnknownError."""
    built = Machine()
    inner_start, inner_final = _Parser(pattern, built).parse()
    built.start, built.final = inner_start, inner_final
    if reading is Reading.ANYWHERE:
        built.start = built.node()
        built.moves[built.start].append((_ALL, built.start))
        built.free[built.start].append((inner_start, ""))
    if reading is not Reading.WHOLE:
        built.final = built.node()
        built.moves[built.final].append((_ALL, built.final))
        built.free[inner_final].append((built.final, ""))
    return built


# --- questions ------------------------------------------------------------------------------------


def find(machines: Sequence[Machine], wanted: Callable[[tuple[bool, ...]], bool]) -> bytes | None:
    """A shortest text of which `wanted` is true of what each machine says of it; None if there is none.

    The first machine is where to look: texts that it does not take are passed over. Raises UnknownError.
    """
    symbols = _symbols(machines)
    begin = tuple(one.begin() for one in machines)
    seen, queue, steps = {begin}, [(begin, b"")], 0
    for subsets, text in queue:  # grows as it is walked
        said = tuple(at >= 0 and one.ends(at) for one, at in zip(machines, subsets, strict=True))
        if said[0] and wanted(said):
            return text
        for byte in symbols:
            steps += 1
            if steps > MAX_STEPS:
                raise UnknownError("there is too much to look at")
            onward = tuple(
                one.onward(at, byte) if at >= 0 else -1 for one, at in zip(machines, subsets, strict=True)
            )
            if onward[0] >= 0 and onward not in seen:
                seen.add(onward)
                queue.append((onward, text + bytes((byte,))))
    return None


def takes(one: Machine, text: bytes) -> bool:
    """Whether the machine takes this text."""
    at = one.begin()
    for byte in text:
        at = one.onward(at, byte)
        if at < 0:
            return False
    return one.ends(at)


_LIKED: Final = b"/abcdefghijklmnopqrstuvwxyz0123456789-._~ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_IN_ORDER: Final = (*_LIKED, *(byte for byte in range(256) if byte not in _LIKED))


def _symbols(machines: Sequence[Machine]) -> tuple[int, ...]:
    """One byte of each kind that no machine tells apart, those that read well first."""
    masks = {mask for one in machines for moves in one.moves for mask, _ in moves}
    kinds = [_ALL]
    for mask in masks:
        kinds = [part for kind in kinds for part in (kind & mask, kind & ~mask) if part]
    liked = (next(byte for byte in _IN_ORDER if kind >> byte & 1) for kind in kinds)
    return tuple(sorted(liked, key=_IN_ORDER.index))


# --- where to look --------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def normal_paths() -> Machine:
    """Every path that is matched against patterns (S19, `smi.policy.path`).

    By hand, as the fewest nodes there can be: every walk goes through it.
    """
    built = Machine()
    start, asterisk, slash, dot, dots, segment, percent = (built.node() for _ in range(7))
    built.start, built.final = start, built.node()
    built.moves[start] = [(_mask("/"), slash), (_mask("*"), asterisk)]
    plain = _range(33, 126) & ~_mask("#%/?")
    rest = [(plain & ~_mask("."), segment), (_mask("%"), percent)]
    built.moves[slash] = [*rest, (_mask("."), dot)]
    built.moves[dot] = [*rest, (_mask("."), dots)]  # a segment of one dot, or of two, is taken away
    built.moves[dots] = [(plain, segment), (_mask("%"), percent)]
    built.moves[segment] = [(plain, segment), (_mask("%"), percent), (_mask("/"), slash)]
    # What is unreserved has been decoded, and an encoded NUL is refused.
    digits, decoded = "0123456789ABCDEFabcdef", re.compile(r"[A-Za-z0-9._~\x00-]")
    lows: dict[str, str] = {}
    for high in digits:
        kept = "".join(low for low in digits if not decoded.fullmatch(chr(int(high + low, 16))))
        lows[kept] = lows.get(kept, "") + high
    for kept, highs in lows.items():
        node = built.node()
        built.moves[percent].append((_mask(highs), node))
        built.moves[node].append((_mask(kept), segment))
    for last in (asterisk, slash, segment):
        built.free[last].append((built.final, ""))
    return built


def header_values() -> Machine:
    """Every value of a field in ASCII (RFC 9110 §5.5): no space at its ends."""
    return machine(r"(?:[!-~](?:[\t -~]*[!-~])?)?", Reading.WHOLE)


# --- RE2's syntax ---------------------------------------------------------------------------------

Piece = tuple[int, int]
"""Start and end node of a part."""
Make = Callable[[], Piece]
"""Builds a part, anew each time: repetitions need several."""


def _mask(characters: str) -> int:
    found = 0
    for character in characters:
        found |= 1 << ord(character)
    return found


def _range(low: int, high: int) -> int:
    return ((1 << (high - low + 1)) - 1) << low


_DIGIT: Final = _range(48, 57)
_LOWER: Final = _range(97, 122)
_UPPER: Final = _range(65, 90)
_WORD: Final = _DIGIT | _LOWER | _UPPER | _mask("_")
_PERL: Final = {"d": _DIGIT, "w": _WORD, "s": _mask("\t\n\f\r ")}
_POSIX: Final = {
    "alnum": _DIGIT | _LOWER | _UPPER,
    "alpha": _LOWER | _UPPER,
    "ascii": _range(0, 127),
    "blank": _mask("\t "),
    "cntrl": _range(0, 31) | 1 << 127,
    "digit": _DIGIT,
    "graph": _range(33, 126),
    "lower": _LOWER,
    "print": _range(32, 126),
    "punct": _range(33, 126) & ~(_DIGIT | _LOWER | _UPPER),
    "space": _mask("\t\n\v\f\r "),
    "upper": _UPPER,
    "word": _WORD,
    "xdigit": _DIGIT | _mask("abcdefABCDEF"),
}
_CONTROLS: Final = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_REPEAT: Final = re.compile(r"\{(\d+)(,(\d*))?\}")
_FLAGS: Final = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED: Final = re.compile(r"\(\?P?<\w+>")


@dataclass(frozen=True, slots=True)
class _Flags:
    fold: bool = False
    """Letters match in either case."""
    dot_all: bool = False


class _Parser:
    """Recursive descent; builds into a Machine. A pattern that RE2 does not compile is no pattern here."""

    def __init__(self, pattern: str, into: Machine) -> None:
        self._text = pattern
        self._at = 0
        self._into = into

    def parse(self) -> Piece:
        make = self._alternatives(_Flags())
        if self._at != len(self._text):
            raise UnknownError(f"{self._text!r} is not understood at {self._at}")
        return make()

    def _alternatives(self, flags: _Flags) -> Make:
        """Up to the end or to the parenthesis that closes the group. Flags hold on, over `|` too."""
        branches: list[Make] = []
        while True:
            branch, flags = self._sequence(flags)
            branches.append(branch)
            if not self._eat("|"):
                break
        into = self._into

        def make() -> Piece:
            start, end = into.node(), into.node()
            for branch in branches:
                piece = branch()
                into.free[start].append((piece[0], ""))
                into.free[piece[1]].append((end, ""))
            return start, end

        return make if len(branches) > 1 else branches[0]

    def _sequence(self, flags: _Flags) -> tuple[Make, _Flags]:
        pieces: list[Make] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            quantity = self._quantity() if pieces else None
            if quantity is not None:
                pieces[-1] = self._repeated(pieces[-1], *quantity)
                continue
            flagged = _FLAGS.match(self._text, self._at)
            if flagged is not None and flagged[3] == ")":
                flags = self._flagged(flags, flagged)
                self._at = flagged.end()
                continue
            pieces += self._atoms(flags)
        into = self._into

        def sequence() -> Piece:
            start = end = into.node()
            for make in pieces:
                piece = make()
                into.free[end].append((piece[0], ""))
                end = piece[1]
            return start, end

        return sequence, flags

    def _quantity(self) -> tuple[int, int | None] | None:
        """`*`, `+`, `?` or `{n,m}` here: least and most; lazy or not comes to the same."""
        found: tuple[int, int | None] | None = None
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._text[self._at])
        repeat = _REPEAT.match(self._text, self._at)
        if simple is not None:
            found, self._at = simple, self._at + 1
        elif repeat is not None:
            least = int(repeat[1])
            most = least if repeat[2] is None else int(repeat[3]) if repeat[3] else None
            found, self._at = (least, most), repeat.end()
        if found is not None:
            self._eat("?")
        return found

    def _repeated(self, make: Make, least: int, most: int | None) -> Make:
        into = self._into

        def repeated() -> Piece:
            start = end = into.node()
            for _ in range(least):
                piece = make()
                into.free[end].append((piece[0], ""))
                end = piece[1]
            if most is None:
                piece, after = make(), into.node()
                into.free[end] += [(piece[0], ""), (after, "")]
                into.free[piece[1]] += [(piece[0], ""), (after, "")]
                return start, after
            last = into.node()
            for _ in range(most - least):
                piece = make()
                into.free[end] += [(piece[0], ""), (last, "")]
                end = piece[1]
            into.free[end].append((last, ""))
            return start, last

        return repeated

    def _atoms(self, flags: _Flags) -> list[Make]:
        """The next atom; several for a quoted text, none for an empty one."""
        char = self._text[self._at]
        if self._text.startswith(r"\Q", self._at):
            quoted, _, _ = self._text[self._at + 2 :].partition(r"\E")
            self._at = min(self._at + 4 + len(quoted), len(self._text))
            return [self._of(self._literal(one, flags)) for one in quoted]
        if self._text.startswith(r"\E", self._at):
            self._at += 2
            return []
        if char == "(":
            return [self._group(flags)]
        if char == "[":
            return [self._of(self._class(flags))]
        if char in "^$":
            self._at += 1
            return [self._guarded(char)]
        if char == "\\":
            return [self._escape(flags)]
        self._at += 1
        if char == ".":
            return [self._of(_ALL if flags.dot_all else _ALL & ~_LINE_FEED)]
        return [self._of(self._literal(char, flags))]

    def _group(self, flags: _Flags) -> Make:
        flagged, named = _FLAGS.match(self._text, self._at), _NAMED.match(self._text, self._at)
        if flagged is not None:
            flags = self._flagged(flags, flagged)
            self._at = flagged.end()
        elif named is not None:
            self._at = named.end()
        elif self._text.startswith("(?", self._at):
            raise UnknownError("a group of this kind is not looked into")
        else:
            self._at += 1
        make = self._alternatives(flags)
        if not self._eat(")"):
            raise UnknownError("a group does not end")
        return make

    @staticmethod
    def _flagged(flags: _Flags, found: re.Match[str]) -> _Flags:
        on, off = found[1], found[2] or ""
        if "m" in on:
            raise UnknownError("anchors of lines are not looked into")
        fold = (flags.fold or "i" in on) and "i" not in off
        return _Flags(fold, (flags.dot_all or "s" in on) and "s" not in off)

    def _escape(self, flags: _Flags) -> Make:
        text = self._text
        char = text[self._at + 1 : self._at + 2]
        if char in ("A", "z"):
            self._at += 2
            return self._guarded("^" if char == "A" else "$")
        mask = self._escaped()
        return self._of(_folded(mask) if flags.fold else mask)

    def _escaped(self) -> int:
        """The bytes that an escape means, within a class or outside."""
        text, at = self._text, self._at
        char = text[at + 1 : at + 2]
        if char.lower() in _PERL and char:
            self._at += 2
            return _PERL[char] if char.islower() else _ALL & ~_PERL[char.lower()]
        if char in _CONTROLS:
            self._at += 2
            return 1 << _CONTROLS[char]
        number = re.compile(
            r"\\x\{([0-9A-Fa-f]+)\}|\\x([0-9A-Fa-f]{2})|\\(0[0-7]{0,2}|[1-7][0-7]{1,2})"
        ).match(text, at)
        if number is not None:
            self._at = number.end()
            code = int(number[3], 8) if number[3] else int(number[1] or number[2], 16)
            return 1 << self._ascii(code)
        if char and char.isascii() and not char.isalnum():
            self._at += 2
            return 1 << ord(char)
        raise UnknownError(f"\\{char} is not looked into")

    def _class(self, flags: _Flags) -> int:
        """`[…]`: the bytes that are in it."""
        text = self._text
        self._at += 1
        negative = self._eat("^")
        mask, begin = 0, self._at
        while self._at == begin or not text.startswith("]", self._at):
            if self._at >= len(text):
                raise UnknownError("a class does not end")
            posix = re.compile(r"\[:(\^?)(\w+):\]").match(text, self._at)
            if posix is not None:
                self._at = posix.end()
                of = _POSIX[posix[2]]
                mask |= _ALL & ~of if posix[1] else of
                continue
            low = self._member()
            dash = text.startswith("-", self._at) and not text.startswith("]", self._at + 1)
            if dash and low.bit_count() == 1:
                self._at += 1
                high = self._member()
                mask |= _range(low.bit_length() - 1, high.bit_length() - 1)
            else:
                mask |= low
        self._at += 1
        mask = _folded(mask) if flags.fold else mask
        return _ALL & ~mask if negative else mask

    def _member(self) -> int:
        char = self._text[self._at]
        if char == "\\":
            return self._escaped()
        self._at += 1
        return 1 << self._ascii(ord(char))

    def _literal(self, char: str, flags: _Flags) -> int:
        mask = 1 << self._ascii(ord(char))
        return _folded(mask) if flags.fold else mask

    @staticmethod
    def _ascii(code: int) -> int:
        if code > 127:
            raise UnknownError("characters beyond ASCII are not looked into")
        return code

    def _of(self, mask: int) -> Make:
        into = self._into

        def make() -> Piece:
            start, end = into.node(), into.node()
            into.moves[start].append((mask, end))
            return start, end

        return make

    def _guarded(self, guard: str) -> Make:
        into = self._into

        def make() -> Piece:
            start, end = into.node(), into.node()
            into.free[start].append((end, guard))
            return start, end

        return make

    def _eat(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) * found
        return found


def _folded(mask: int) -> int:
    return mask | (mask & _LOWER) >> 32 | (mask & _UPPER) << 32
