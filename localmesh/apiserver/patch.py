"""Merge patch. (JSON patch and strategic merge follow.)"""

from __future__ import annotations

from typing import Any

from localmesh.apiserver.jsonvalue import clone


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396; neither argument is changed."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result
