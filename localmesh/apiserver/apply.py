"""Server-side apply: the applied configuration is merged with ownership, and the object made if absent."""

from __future__ import annotations

from localmesh.apiserver.call import Call, Target
from localmesh.apiserver.errors import ApiError, bad_request, invalid, required
from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.metadata import now_text
from localmesh.apiserver.ownership import Owner, applied
from localmesh.apiserver.rest import Rest
from localmesh.apiserver.structure import structure_of


async def apply_patch(rest: Rest, target: Target, config: object, call: Call) -> tuple[JsonObject, bool]:
    """The object after the apply, and whether it was created.

    ApiError 422 without a field manager, 409 for conflicts.
    """
    if not call.manager:
        cause = required("fieldManager", "is required for apply patch")
        raise invalid("PatchOptions", "meta.k8s.io", "", [cause])
    wanted = _checked(target, config)
    resource = target.resource
    structure = structure_of(resource, target.version)
    owner = Owner(call.manager, "Apply", resource.api_version(target.version), target.subresource)
    kind = f"{resource.group}/{target.version}, Kind={resource.kind}"
    what = f"{target.namespace}/{target.name}; {kind}"
    apart = target.subresource == "" and resource.has("status", target.version)

    def mutation(current: JsonObject) -> JsonObject:
        live = {key: value for key, value in current.items() if not (apart and key == "status")}
        return applied(live, wanted, structure, owner, now_text(), force=call.force, what=what)

    try:
        return await rest.mutate(target, mutation, call, applies=True), False
    except ApiError as error:
        if error.code != 404 or target.subresource or (error.details or {}).get("name") != target.name:
            raise
    return await rest.create(target, mutation({}), call, applies=True), True


def _checked(target: Target, config: object) -> JsonObject:
    """The configuration as far as this path can write it."""
    if not isinstance(config, dict):
        raise bad_request("an apply configuration must be an object")
    for key in ("kind", "apiVersion"):
        if not config.get(key):
            raise bad_request(f"Object '{key[0].upper() + key[1:]}' is missing in the apply configuration")
    meta = config.get("metadata")
    if meta is not None and not isinstance(meta, dict):
        raise bad_request("metadata must be an object")
    whole = {**config, "metadata": {"name": target.name, **(meta or {})}}
    if target.subresource == "status":
        return {key: whole[key] for key in ("apiVersion", "kind", "metadata", "status") if key in whole}
    if target.resource.has("status", target.version):
        whole.pop("status", None)
    return whole
