"""What a request says about its trace, and what is said on about it. Pure.

Three forms are read and written: W3C Trace Context (https://www.w3.org/TR/trace-context/, `traceparent`
and `tracestate`), B3 in one field (`b3`) and B3 in several (`x-b3-…`), see
https://github.com/openzipkin/b3-propagation. If there are several, they count in this order; what is
written is one context in every form that came well-formed, so that nobody behind us sees another trace
than the others do. A form that is malformed counts as absent, and goes no further; nor does a
`tracestate` whose `traceparent` is (Trace Context, "Processing Model").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

Fields = list[tuple[bytes, bytes]]

W3C: Final = 1
B3: Final = 2
B3_MULTI: Final = 4
FORMS: Final[dict[str, int]] = {"w3c": W3C, "b3": B3, "b3-multi": B3_MULTI}
"""The forms of `smi.names.TRACE_FORMS`, as bits of `Context.forms`."""

_TRACEPARENT: Final = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
"""Version, trace id, parent id, flags; later versions may append (Trace Context §3.2)."""
_NOT_SAMPLED: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")
_B3: Final = re.compile(rb"([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d])(?:-([0-9a-f]{16}))?)?")
_B3_TRACE: Final = re.compile(rb"[0-9a-f]{32}|[0-9a-f]{16}")
_B3_SPAN: Final = re.compile(rb"[0-9a-f]{16}")
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_SAMPLED: Final = 1
_RANDOM: Final = 2
"""The trace id is random (Trace Context level 2): to be passed on as it came."""
_YES: Final = frozenset({b"1", b"true"})
_NO: Final = frozenset({b"0", b"false"})
"""Old libraries write words into `x-b3-sampled`."""


class Context:
    """A trace, and the caller's span in it."""

    __slots__ = ("debug", "forms", "random", "sampled", "short", "span", "state", "trace")

    def __init__(self, forms: int, trace: bytes, span: bytes, sampled: bool | None) -> None:
        self.forms = forms
        """Bits of FORMS: the well-formed ones it came in, or that it is to be written in."""
        self.trace = trace
        """32 hexadecimal digits; empty: only a decision came (B3)."""
        self.span = span
        """The caller's: 16 hexadecimal digits, or empty."""
        self.sampled = sampled
        """None: nobody has decided yet (B3)."""
        self.debug = False
        """B3's debug flag: sampled, whatever any sampler says."""
        self.random = False
        self.short = False
        """The trace id came as 16 digits, and goes on so in B3."""
        self.state: list[bytes] = []
        """Values of `tracestate`, in their order."""


def read_context(fields: Fields) -> Context | None:
    """The context in a head's trace fields (names in lower case); None without a well-formed one."""
    parents: list[bytes] = []
    states: list[bytes] = []
    singles: list[bytes] = []
    multi: dict[bytes, bytes] = {}
    for name, value in fields:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
        elif name == b"b3":
            singles.append(value)
        elif name in multi:
            multi[name] = b"?"  # twice: neither
        else:
            multi[name] = value
    found: Context | None = None
    if len(parents) == 1:
        found = _read_w3c(parents[0])
        if found is not None:
            found.state = states
    if singles:
        found = _joined(found, _read_b3(singles[0]) if len(singles) == 1 else None)
    if multi:
        found = _joined(found, _read_multi(multi))
    return found


def says_no(field: tuple[bytes, bytes]) -> bool:
    """Whether a trace field, if it is the only one, is a `traceparent` that is not sampled.

    A quick look for the usual case: `read_context` says the same.
    """
    return field[0] == b"traceparent" and _NOT_SAMPLED.fullmatch(field[1]) is not None


def _joined(first: Context | None, second: Context | None) -> Context | None:
    if first is None or second is None:
        return first or second
    first.forms |= second.forms
    return first


def _read_w3c(value: bytes) -> Context | None:
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == b"ff" or trace == _NO_TRACE or span == _NO_SPAN or (version == b"00" and more is not None):
        return None
    bits = int(flags, 16)
    context = Context(W3C, trace, span, bits & _SAMPLED != 0)
    context.random = bits & _RANDOM != 0
    return context


def _read_b3(value: bytes) -> Context | None:
    if value in (b"0", b"1", b"d"):
        context = Context(B3, b"", b"", value != b"0")
        context.debug = value == b"d"
        return context
    match = _B3.fullmatch(value)
    if match is None:
        return None
    trace, span, state, _ = match.groups()
    return _b3(B3, trace, span, None if state is None else state != b"0", state == b"d")


def _read_multi(fields: dict[bytes, bytes]) -> Context | None:
    debug = fields.get(b"x-b3-flags") == b"1"
    said = fields.get(b"x-b3-sampled", b"").lower()
    if not debug and said and said not in _YES and said not in _NO:
        return None
    sampled = True if debug or said in _YES else False if said in _NO else None
    trace, span = fields.get(b"x-b3-traceid"), fields.get(b"x-b3-spanid")
    if trace is None and span is None:
        if sampled is None:
            return None
        context = Context(B3_MULTI, b"", b"", sampled)
        context.debug = debug
        return context
    if (
        trace is None
        or span is None
        or _B3_TRACE.fullmatch(trace) is None
        or _B3_SPAN.fullmatch(span) is None
    ):
        return None
    return _b3(B3_MULTI, trace, span, sampled, debug)


def _b3(form: int, trace: bytes, span: bytes, sampled: bool | None, debug: bool) -> Context | None:
    short = len(trace) == 16
    trace = trace.rjust(32, b"0")
    if trace == _NO_TRACE or span == _NO_SPAN:
        return None
    context = Context(form, trace, span, sampled)
    context.short = short
    context.debug = debug
    return context


def write_context(context: Context, span: bytes, parent: bytes) -> Fields:
    """The fields that say `context` on, in all its forms, with `span` for the sender's.

    `parent`: the span above it, or empty; B3 tells it. `context.sampled` must be decided.
    """
    out: Fields = []
    forms, trace, sampled = context.forms, context.trace, context.sampled
    if forms & W3C:
        flags = (_SAMPLED if sampled else 0) | (_RANDOM if context.random else 0)
        out.append((b"traceparent", b"00-%b-%b-%02x" % (trace, span, flags)))
        out += [(b"tracestate", state) for state in context.state]
    if forms & (B3 | B3_MULTI):
        short = trace[16:] if context.short else trace
        state = b"d" if context.debug else b"1" if sampled else b"0"
        if forms & B3:
            whole = b"%b-%b-%b" % (short, span, state)
            out.append((b"b3", whole + b"-" + parent if parent else whole))
        if forms & B3_MULTI:
            out += [(b"x-b3-traceid", short), (b"x-b3-spanid", span)]
            if parent:
                out.append((b"x-b3-parentspanid", parent))
            out.append((b"x-b3-flags", b"1") if context.debug else (b"x-b3-sampled", state))
    return out


def write_refusal(forms: int, ids: int) -> Fields:
    """The fields of a new trace that is not sampled, so that nobody behind us decides anew.

    `ids`: 192 random bits, for the form that needs ids.
    """
    out: Fields = []
    if forms & W3C:
        out.append((b"traceparent", b"00-%032x-%016x-00" % (ids >> 64 or 1, ids & 0xFFFFFFFFFFFFFFFF or 1)))
    if forms & B3:
        out.append((b"b3", b"0"))
    if forms & B3_MULTI:
        out.append((b"x-b3-sampled", b"0"))
    return out


def trace_of(field: Callable[[bytes], bytes | None]) -> str:
    """The trace id in a head; "" without one. `field` gives the value of a field of it."""
    parent = field(b"traceparent")
    context = None if parent is None else _read_w3c(parent)
    if context is not None:
        return context.trace.decode("ascii")
    for name, form in ((b"b3", _B3), (b"x-b3-traceid", _B3_TRACE)):
        found = field(name)
        match = form.fullmatch(found) if found is not None else None
        if match is not None:
            trace = match[0].partition(b"-")[0]
            if trace.strip(b"0"):
                return trace.decode("ascii")
    return ""
