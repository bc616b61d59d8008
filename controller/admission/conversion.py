"""ConversionReview in, ConversionReview out: every SMI version to every other. Pure.

The conversions themselves are `smi.api`'s; this is their envelope (apiextensions.k8s.io/v1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Convert = Callable[[dict[str, Any], str], dict[str, Any]]
"""(object, version such as `v1alpha4`) → the object in that version; raises ValueError."""


def convert_review(review: dict[str, Any], convert: Convert) -> dict[str, Any]:
    """Answer one ConversionReview: all of its objects, or a failure that names the object."""
    request = review.get("request")
    request = request if isinstance(request, dict) else {}
    wanted = str(request.get("desiredAPIVersion") or "")
    converted: list[dict[str, Any]] = []
    failure = ""
    for obj in request.get("objects") or ():
        try:
            converted.append(_convert(obj, wanted, convert))
        except ValueError as error:
            failure = f"{_name(obj)} to {wanted}: {error}"
            break
    result = {"status": "Failed", "message": failure} if failure else {"status": "Success"}
    return {
        "apiVersion": review.get("apiVersion", "apiextensions.k8s.io/v1"),
        "kind": "ConversionReview",
        "response": {
            "uid": str(request.get("uid") or ""),
            "convertedObjects": [] if failure else converted,
            "result": result,
        },
    }


def _convert(obj: Any, wanted: str, convert: Convert) -> dict[str, Any]:
    if not isinstance(obj, dict):
        raise ValueError("not an object")
    group, _, version = wanted.rpartition("/")
    if str(obj.get("apiVersion") or "").rpartition("/")[0] != group:
        raise ValueError(f"its apiVersion is {obj.get('apiVersion')!r}, of another group")
    if obj.get("apiVersion") == wanted:
        return obj
    return convert(obj, version)


def _name(obj: Any) -> str:
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    if not isinstance(metadata, dict):
        return "an object without metadata"
    return f"{obj.get('kind')} {metadata.get('namespace') or ''}/{metadata.get('name')}"
