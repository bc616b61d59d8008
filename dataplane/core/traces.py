"""Which trace a request belongs to, as its own fields say. Pure.

Read from W3C Trace Context (`traceparent`) or B3 (`b3`, `x-b3-traceid`). The id is told in metrics as
an exemplar, so it is taken only if it is one: hexadecimal and not all zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
"""Version, trace id, parent id, flags; later versions may append (Trace Context §3.2)."""
_B3: Final = re.compile(rb"([0-9a-f]{32}|[0-9a-f]{16})(?:-.*)?")


def trace_of(field: Callable[[bytes], bytes | None]) -> str:
    """The trace id in a head; "" without one. `field` gives the value of a field of it."""
    for name, form in ((b"traceparent", _TRACEPARENT), (b"b3", _B3), (b"x-b3-traceid", _B3)):
        found = field(name)
        match = form.fullmatch(found) if found is not None else None
        if match is not None and match[1].strip(b"0"):
            return match[1].decode("ascii")
    return ""
