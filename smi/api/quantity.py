"""Kubernetes resource quantities as exact fractions: the weights of split v1alpha1 (S1, S3).

Grammar and suffixes as documented for `k8s.io/apimachinery/pkg/api/resource.Quantity`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

_QUANTITY: Final = re.compile(
    r"([+-]?)(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE]))?", re.ASCII
)
MAX_WEIGHT: Final = 2**63 - 1
_MAX_LENGTH: Final = 64
_MAX_EXPONENT: Final = 18
_SUFFIXES: Final = {
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate(("n", "u", "m", "", "k"), start=-3)},
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate("MGTPE", start=2)},
    **{f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


class QuantityError(ValueError):
    """The text is not a quantity."""


def parse_quantity(value: object) -> Fraction:
    """The exact value of `500m`, `1`, `0.5`, `1e3`, `2Ki` or a JSON number; raises QuantityError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise QuantityError(f"expected a quantity such as 500m, got {type(value).__name__}")
    text = value if isinstance(value, str) else repr(value) if isinstance(value, float) else _digits(value)
    found = _QUANTITY.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if found is None:
        raise QuantityError(f"expected a quantity such as 500m, got {text[:_MAX_LENGTH]!r}")
    sign, number, exponent, suffix = found.groups()
    if exponent is not None and abs(int(exponent)) > _MAX_EXPONENT:
        raise QuantityError(f"the exponent of {text!r} is over {_MAX_EXPONENT}")
    scale = Fraction(10) ** int(exponent) if exponent is not None else _SUFFIXES[suffix or ""]
    # Fraction reads "1." and ".5" only with a digit on both sides.
    return Fraction(f"{sign}0{number}0" if "." in number else f"{sign}{number}") * scale


def _digits(value: int) -> str:
    return str(value) if value.bit_length() <= 128 else "an enormous number"


def format_quantity(value: Fraction) -> str:
    """The canonical text of a quantity of at most nine decimals: no fraction, the largest suffix that does.

    `10m` for 0.01, `1500u` for 0.0015, `3` for 3. Raises QuantityError for a finer or negative one.
    """
    for suffix, power in (("", 0), ("m", 1), ("u", 2), ("n", 3)):
        scaled = value * 1000**power
        if scaled.denominator == 1 and scaled >= 0:
            return f"{scaled.numerator}{suffix}"
    raise QuantityError(f"{value} is negative or has more than nine decimals")


def whole_weights(quantities: Sequence[Fraction]) -> tuple[int, ...]:
    """The quantities in the largest unit of 1, 1/1000, 1/1000000 … in which all are whole.

    Ratios stay exact and a reader still recognises `1` and `500m` in 1000 and 500. Raises
    QuantityError where no such unit keeps the numbers in 64 bits, the range of a Kubernetes integer.
    """
    for power in range(7):
        unit = 1000**power
        if all((quantity * unit).denominator == 1 for quantity in quantities):
            weights = tuple(int(quantity * unit) for quantity in quantities)
            if max(weights, default=0) <= MAX_WEIGHT:
                return weights
            break
    raise QuantityError("the weights are too large or too finely divided for 64-bit whole numbers")
