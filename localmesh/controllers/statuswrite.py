"""Writing a status as a whole, only where it changed, and only over the object it was computed from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localmesh.apiserver.api import Api


async def write_status(api: Api, resource: str, obj: Mapping[str, Any], status: dict[str, Any]) -> None:
    """Put `status` in place of the object's.

    Raises ApiError 409 when the object changed since it was read: to be computed again, so that a count is
    never taken from what is not there any more, nor a generation called observed that was not.
    """
    if status == (obj.get("status") or {}):
        return
    meta = obj["metadata"]
    whole = {**obj, "status": status}
    await api.update(resource, meta["namespace"], meta["name"], whole, subresource="status")
