"""Server-side apply, reduced: the applied configuration is merged by list keys and the object made if absent.

Ownership is not tracked: there are no conflicts, and what a manager leaves out of a later apply stays. That
is enough for `kubectl apply --server-side` and Helm to converge on a first install; docs must say so.
"""

from __future__ import annotations

from localmesh.apiserver.call import Call, Target
from localmesh.apiserver.errors import ApiError, invalid, required
from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.rest import Mutation, Rest


async def apply_patch(rest: Rest, target: Target, mutation: Mutation, call: Call) -> tuple[JsonObject, bool]:
    """The object after the apply, and whether it was created. ApiError 422 without a field manager."""
    if not call.manager:
        cause = required("fieldManager", "is required for apply patch")
        raise invalid("PatchOptions", "meta.k8s.io", "", [cause])
    try:
        return await rest.mutate(target, mutation, call), False
    except ApiError as error:
        if error.code != 404 or target.subresource:
            raise
    empty: JsonObject = {"metadata": {"name": target.name}}
    return await rest.create(target, mutation(empty), call), True
