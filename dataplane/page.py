"""The text of a scrape, in the Prometheus format 0.0.4 or as OpenMetrics 1.0.

A `Page` collects lines; who writes on it says family by family what there is. The two formats
differ in the names of counter families, in how a bucket's bound is written, in exemplars and in
the end. Knows nothing of what is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One exchange that a bucket stands for: its trace, its value in the histogram's unit, Unix time."""

    trace: str
    value: float
    time: float


NO_EXEMPLARS: Final[Mapping[int, Exemplar]] = {}


class Bounds:
    """The buckets of one exposed histogram, each a sum of neighbouring buckets of what was counted.

    `counted`: upper bounds of the counted buckets, ascending; the last bucket, without a bound, is
    +Inf. `exposed`: a subset of them. `unit`: how many of the exposed unit one of the counted is.
    """

    __slots__ = ("_openmetrics", "_text", "unit")

    def __init__(self, counted: Sequence[float], exposed: Iterable[float], unit: float = 1.0) -> None:
        self.unit = unit
        places = [(counted.index(bound), bound * unit) for bound in exposed]
        last = (len(counted), "+Inf")
        self._text: tuple[tuple[int, str], ...] = (*((at, f"{round(le, 9):g}") for at, le in places), last)
        canonical = ((at, repr(float(round(le, 9)))) for at, le in places)
        self._openmetrics: tuple[tuple[int, str], ...] = (*canonical, last)

    def places(self, openmetrics: bool) -> tuple[tuple[int, str], ...]:
        """(index of the last counted bucket in it, text of its bound) of every exposed bucket."""
        return self._openmetrics if openmetrics else self._text


class Page:
    """Lines written so far. `openmetrics` chooses the format."""

    __slots__ = ("_pieces", "openmetrics")

    def __init__(self, openmetrics: bool = False) -> None:
        self.openmetrics = openmetrics
        self._pieces: list[bytes] = []

    def family(self, kind: str, name: str, help_text: str) -> None:
        """Begin a family; `name` as its samples have it (a counter's ends in `_total`)."""
        if self.openmetrics and kind == "counter":
            name = name.removesuffix("_total")
        self._write(f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n")

    def sample(self, name: str, labels: str, value: float) -> None:
        """One sample; `labels` as `labels` below gives them."""
        self._write(f"{name}{{{labels}}} {value!r}\n" if labels else f"{name} {value!r}\n")

    def histogram(
        self,
        name: str,
        labels: str,
        bounds: Bounds,
        counts: Sequence[int],
        total: float,
        exemplars: Mapping[int, Exemplar] = NO_EXEMPLARS,
    ) -> None:
        """One histogram: `counts` per counted bucket, `total` of all values in the counted unit.

        `exemplars` by counted bucket; of several in one exposed bucket the last is shown.
        """
        so_far = list(accumulate(counts))
        rest = f"{labels}," if labels else ""
        places = bounds.places(self.openmetrics)
        if exemplars and self.openmetrics:
            self._with_exemplars(name, rest, bounds, so_far, exemplars)
        else:
            lines = [f'{name}_bucket{{{rest}le="{le}"}} {so_far[at]}\n' for at, le in places]
            self._write("".join(lines))
        end = f"{{{labels}}}" if labels else ""
        self._write(f"{name}_sum{end} {total * bounds.unit!r}\n{name}_count{end} {so_far[-1]}\n")

    def _with_exemplars(
        self, name: str, rest: str, bounds: Bounds, so_far: list[int], exemplars: Mapping[int, Exemplar]
    ) -> None:
        first = 0
        for at, le in bounds.places(True):
            shown = [exemplars[index] for index in range(first, at + 1) if index in exemplars]
            first = at + 1
            text = ""
            if shown:
                one = shown[-1]
                text = f' # {{trace_id="{one.trace}"}} {one.value * bounds.unit!r} {one.time:.3f}'
            self._write(f'{name}_bucket{{{rest}le="{le}"}} {so_far[at]}{text}\n')

    def _write(self, text: str) -> None:
        self._pieces.append(text.encode())  # here, piece by piece: the whole may be megabytes

    def end(self) -> None:
        """Nothing follows."""
        if self.openmetrics:
            self._write("# EOF\n")

    def bytes(self) -> bytes:
        """Everything written."""
        return b"".join(self._pieces)


def labels(names: Sequence[str], values: Sequence[str]) -> str:
    """Label pairs as they stand between braces."""
    return ",".join(f'{name}="{escape(value)}"' for name, value in zip(names, values, strict=True))


def escape(text: str) -> str:
    """A label value as it stands between quotes."""
    if "\\" in text or '"' in text or "\n" in text:
        return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return text
