"""What SMI objects look like: models of every version, the hub they meet in, conversion, CRDs.

Knows nothing of what a mesh does with an object; `smi.lower` is the next station.
"""

from __future__ import annotations

from smi.api.convert import ConversionError, convert
from smi.api.parse import Parsed, Rejected, parse

__all__ = ["ConversionError", "Parsed", "Rejected", "convert", "parse"]
