"""What the pydantic models of all groups share: configuration, metadata, and field types.

The models are the tolerant reader's picture of each published version (S2): they accept what the
API server may hand over, ignore what they do not know, and name the field of what they refuse.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from smi.api.quantity import MAX_WEIGHT, QuantityError, parse_quantity

MAX_PORT: Final = 65535


class ApiModel(BaseModel):
    """Base of every model: unknown fields are ignored, camelCase on the wire, no silent coercion."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, populate_by_name=True)


class ObjectMeta(ApiModel):
    """The part of metadata that the mesh reads. `name` is empty while `generateName` waits."""

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = Field(default=None, alias="creationTimestamp")
    annotations: dict[str, str] | None = None


class ApiObject(ApiModel):
    """A Kubernetes object."""

    api_version: str = Field(alias="apiVersion")
    kind: str
    metadata: ObjectMeta


def _whole(value: Any) -> Any:
    """JSON numbers like 50.0 are whole: the published CRDs say `type: number`."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _port(value: Any) -> Any:
    """Ports were text in early manifests."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 5:
        return int(value)
    return _whole(value)


def _weight(value: Any) -> int:
    whole = _whole(value)
    if isinstance(whole, bool) or not isinstance(whole, int) or not 0 <= whole <= MAX_WEIGHT:
        shown = repr(value)[:40] if isinstance(value, str | int | float) else type(value).__name__
        raise ValueError(f"a weight must be a whole number from 0 to {MAX_WEIGHT}, got {shown}")
    return whole


def _quantity(value: Any) -> Any:
    try:
        negative = parse_quantity(value) < 0
    except QuantityError as error:
        raise ValueError(f"a weight must be a quantity >= 0: {error}") from None
    if negative:
        raise ValueError(f"a weight must be a quantity >= 0, got {value}")
    return value


def _headers(value: Any) -> Any:
    """Header filters as a list of pairs; on the wire a map, or a list of maps (S2)."""
    if value is None:
        return []
    maps = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in maps):
        raise ValueError("headers must be a map of name to pattern, or a list of such maps")
    return [list(pair) for item in maps for pair in item.items()]


def _header_pair(value: Any) -> Any:
    if not all(isinstance(text, str) for text in value):
        raise ValueError("a header filter must be a name and a pattern, both text")
    return tuple(value)


Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Port = Annotated[int, BeforeValidator(_port), Field(ge=1, le=MAX_PORT)]
Weight = Annotated[int, BeforeValidator(_weight)]
"""A whole number >= 0 (S3)."""
Quantity = Annotated[int | float | str, BeforeValidator(_quantity)]
"""A resource quantity >= 0, as written (split v1alpha1)."""
HeaderFilters = Annotated[
    list[Annotated[tuple[str, str], BeforeValidator(_header_pair)]], BeforeValidator(_headers)
]
"""(name, pattern) pairs, in the order written."""
