"""ControllerRevisions: the pod templates a DaemonSet or StatefulSet had (`kubectl rollout history`).

`data` is what kubectl sends back as a strategic merge patch to return to a revision: the template with the
directive that it replaces the present one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers.owners import claim, delete_quietly, owner_reference
from localmesh.controllers.rollout import template_hash

RESOURCE: Final = "controllerrevisions.apps"
HASH_LABEL: Final = "controller-revision-hash"
Revision = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class History:
    """All revisions of one owner, oldest first; `newest` is the one of the present template."""

    revisions: tuple[Revision, ...]
    newest: Revision

    @property
    def name(self) -> str:
        return str(self.newest["metadata"]["name"])

    def named(self, name: str) -> Revision | None:
        return next((one for one in self.revisions if one["metadata"]["name"] == name), None)


def data_of(template: Mapping[str, Any]) -> dict[str, Any]:
    return {"spec": {"template": {**template, "$patch": "replace"}}}


def template_of(revision: Revision) -> dict[str, Any]:
    """The pod template a revision keeps."""
    template = revision["data"]["spec"]["template"]
    return {key: value for key, value in template.items() if key != "$patch"}


def hash_of(revision: Revision) -> str:
    return str((revision["metadata"].get("labels") or {}).get(HASH_LABEL, ""))


def superfluous(history: History, used: Collection[str], limit: int) -> list[Revision]:
    """The oldest revisions beyond `limit` that no pod has (`used` are names)."""
    idle = [
        one
        for one in history.revisions
        if one["metadata"]["name"] not in used and one["metadata"]["name"] != history.name
    ]
    return idle[: max(0, len(idle) - limit)]


async def sync(api: Api, owner: Mapping[str, Any], kind: str) -> tuple[History, int]:
    """Make the present template the newest revision: created, or an old one renumbered (a rollback).

    A new one keeps the owner's annotations of that moment; `kubectl rollout history` shows the change cause.

    Returns the history and how often a name was taken so far (`status.collisionCount`).
    """
    meta, template = owner["metadata"], owner["spec"]["template"]
    collisions = int((owner.get("status") or {}).get("collisionCount") or 0)
    known = sorted(await claim(api, owner, "apps/v1", kind, RESOURCE), key=lambda one: int(one["revision"]))
    wanted = data_of(template)
    number = max((int(one["revision"]) for one in known), default=0)
    same = [one for one in known if one.get("data") == wanted]
    if same:
        found = same[-1]
        if int(found["revision"]) < number:
            patch = {"revision": number + 1}
            found = await api.patch(RESOURCE, meta["namespace"], found["metadata"]["name"], patch)
        others = [one for one in known if one["metadata"]["name"] != found["metadata"]["name"]]
        return History((*others, found), found), collisions
    while True:
        revision = _revision(owner, kind, number + 1, template_hash(template, collisions))
        try:
            created = await api.create(RESOURCE, meta["namespace"], revision)
        except ApiError as error:
            if error.code != 409:
                raise
            collisions += 1  # the name is taken by another owner's, or by another template
        else:
            return History((*known, created), created), collisions


async def forget(api: Api, revisions: Sequence[Revision]) -> None:
    for one in revisions:
        meta = one["metadata"]
        await delete_quietly(api, RESOURCE, meta["namespace"], meta["name"], meta["uid"])


def _revision(owner: Mapping[str, Any], kind: str, number: int, digest: str) -> dict[str, Any]:
    template = owner["spec"]["template"]
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: digest}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{owner['metadata']['name']}-{digest}",
            "labels": labels,
            "annotations": dict(owner["metadata"].get("annotations") or {}),
            "ownerReferences": [owner_reference(owner, "apps/v1", kind)],
        },
        "revision": number,
        "data": data_of(template),
    }
