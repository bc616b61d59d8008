"""Who owns which field of an object: metadata.managedFields, and server-side apply on top of it.

Pure functions over objects of one version. Source: "Server-Side Apply" in Kubernetes' documentation and the
recorded cases (kubernetes-api.md, Appendix E); ADR 0021 says where we stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from localmesh.apiserver.errors import ApiError, Cause, bad_request
from localmesh.apiserver.fieldset import (
    NOTHING,
    Fields,
    MalformedFieldsError,
    Path,
    compare,
    element_of,
    fields_of,
    from_json,
    merged,
    shown,
    to_json,
    with_named,
    without,
)
from localmesh.apiserver.jsonvalue import JsonObject, child, clone_object, dumps, loads
from localmesh.apiserver.structure import Structure

Operation = Literal["Apply", "Update"]
MAX_UPDATERS = 10
"""Update entries of one object; older ones are put together."""
ANCIENT = "ancient-changes"
BEFORE_APPLY = "before-first-apply"
_KUBECTL = "kubectl"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_NOBODYS: Fields = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields",
                "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds",
            )
        ),
    }
)  # fmt: skip
"""What identifies an object or is the server's to write."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who writes how: what tells one entry of managedFields from another."""

    manager: str
    operation: Operation
    api_version: str
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """An applier stays the same when it changes to another version."""
        version = self.api_version if self.operation == "Update" else ""
        return (self.manager, self.operation, version, self.subresource)


@dataclass(frozen=True, slots=True)
class Entry:
    owner: Owner
    fields: Fields
    time: str


Entries = Mapping[tuple[str, ...], Entry]


# --- metadata.managedFields --------------------------------------------------------------------------


def read(rows: Any) -> Entries:
    """ApiError 400 for what is no list of managed fields."""
    result = {}
    for row in rows or ():
        if not isinstance(row, dict):
            raise bad_request("metadata.managedFields must be a list of objects")
        if not row:
            continue  # `[{}]` clears the list
        try:
            fields = from_json(row.get("fieldsV1") or {})
        except MalformedFieldsError as error:
            raise bad_request(f"metadata.managedFields: {error}") from error
        operation = row.get("operation")
        if operation not in ("Apply", "Update"):
            raise bad_request(f"metadata.managedFields: invalid operation {operation!r}")
        owner = Owner(
            str(row.get("manager") or ""),
            operation,
            str(row.get("apiVersion") or ""),
            str(row.get("subresource") or ""),
        )
        result[owner.identity] = Entry(owner, fields, str(row.get("time") or ""))
    return result


def written(entries: Entries) -> list[JsonObject]:
    """Appliers first, then by time and name, as upstream."""
    return [_row(entry) for entry in sorted(_capped(entries).values(), key=_order)]


def _order(entry: Entry) -> tuple[str, ...]:
    owner = entry.owner
    return (owner.operation, entry.time, owner.manager, owner.api_version, owner.subresource)


def _row(entry: Entry) -> JsonObject:
    owner = entry.owner
    row: JsonObject = {
        "manager": owner.manager,
        "operation": owner.operation,
        "apiVersion": owner.api_version,
        "time": entry.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": to_json(entry.fields),
    }
    return {**row, "subresource": owner.subresource} if owner.subresource else row


def _capped(entries: Entries) -> Entries:
    """The oldest updaters above the bound become one per version."""
    updaters = sorted((entry for entry in entries.values() if entry.owner.operation == "Update"), key=_order)
    excess = updaters[: max(0, len(updaters) - MAX_UPDATERS)]
    if not excess:
        return entries
    result = dict(entries)
    for entry in [*excess, updaters[len(excess)]]:
        del result[entry.owner.identity]
        bucket = Owner(ANCIENT, "Update", entry.owner.api_version)
        known = result.get(bucket.identity)
        fields = entry.fields | known.fields if known else entry.fields
        result[bucket.identity] = Entry(bucket, fields, entry.time)
    return result


# --- updates -----------------------------------------------------------------------------------------


def updated(
    old: JsonObject, new: JsonObject, structure: Structure, owner: Owner, now: str
) -> list[JsonObject] | None:
    """managedFields after `owner` made `new` of `old` ({} at creation): it owns what it changed.

    `new` may bring another list of its own; `[{}]` clears it. None when nobody's fields are tracked (what
    the built-in controllers made, what was cleared).
    """
    known = child(old, "metadata").get("managedFields")
    brought = child(new, "metadata").get("managedFields")
    if brought and brought != known:
        known = brought
        if not any(brought):
            return None
    if old and not known:
        return None
    entries = read(known)
    changes = compare(_bare(old), _bare(new), structure)
    entries = _disowned(entries, owner, changes.added | changes.modified, changes.removed)
    before = entries.get(owner.identity)
    fields = before.fields if before else NOTHING
    mine = _ours((fields - changes.removed) | changes.added | changes.modified, owner)
    return written(_with(entries, owner, mine, now))


def _bare(obj: JsonObject) -> JsonObject:
    """Without managedFields, which own and are nothing."""
    meta = child(obj, "metadata")
    if "managedFields" not in meta:
        return obj
    return {**obj, "metadata": {key: value for key, value in meta.items() if key != "managedFields"}}


def _ours(fields: Fields, owner: Owner) -> Fields:
    """Without what nobody owns, and without what the subresource cannot write."""
    fields = fields - _NOBODYS
    if owner.subresource == "status":
        return frozenset(path for path in fields if path[0] in ("f:status", "f:metadata"))
    return fields


def _disowned(entries: Entries, owner: Owner, taken: Fields, gone: Fields) -> Entries:
    """The others' entries without what the owner took and what is gone; empty ones are left out."""
    result = {}
    for identity, entry in entries.items():
        if identity == owner.identity:
            result[identity] = entry
            continue
        fields = entry.fields - taken - gone
        if fields:
            result[identity] = replace(entry, fields=fields)
    return result


def _with(entries: Entries, owner: Owner, fields: Fields, now: str) -> Entries:
    """With the owner's entry as it is now; its time is that of the last change of the entry."""
    before = entries.get(owner.identity)
    result = {identity: entry for identity, entry in entries.items() if identity != owner.identity}
    if fields:
        same = before is not None and before.fields == fields and before.owner == owner
        result[owner.identity] = before if same and before is not None else Entry(owner, fields, now)
    return result


# --- apply -------------------------------------------------------------------------------------------


def applied(
    live: JsonObject,
    config: JsonObject,
    structure: Structure,
    owner: Owner,
    now: str,
    *,
    force: bool,
    what: str = "",
) -> JsonObject:
    """`live` ({} when there is none) after `owner` applied `config`, with managedFields.

    What it applied before, leaves out now and shares with nobody is removed. ApiError 409 with every
    conflict when it changes what others own and does not force it, 500 for a configuration that does not
    fit the kind, which calls the object `what`.
    """
    if child(config, "metadata").get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    _check(config, structure, what)
    entries = _known(live, structure, owner, now)
    before = entries.get(owner.identity)
    mine = _ours(fields_of(config, structure), owner)
    current = _bare(live)
    entries = {**entries, owner.identity: Entry(owner, mine, before.time if before else now)}
    proposed = merged(current, config, structure)
    if before is not None and before.fields:
        proposed = _pruned(proposed, entries.values(), before.fields, structure)
    changes = compare(current, proposed, structure)
    taken = changes.added | changes.modified
    conflicts = _conflicts(entries, owner, taken)
    if conflicts and not force and not _are_kubectls_own(conflicts, current, structure, owner):
        raise _conflict_error(conflicts)
    entries = _disowned(entries, owner, taken, changes.removed)
    entries = {identity: entry for identity, entry in entries.items() if identity != owner.identity}
    if before is not None:
        entries = {**entries, owner.identity: before}
    rows = written(_with(entries, owner, mine, now))
    result = _with_last_applied(proposed, config, owner)
    return {**result, "metadata": {**child(result, "metadata"), "managedFields": rows}}


def _known(live: JsonObject, structure: Structure, owner: Owner, now: str) -> Entries:
    """The entries of an object; one that was not tracked belongs to whoever wrote it before."""
    entries = read(child(live, "metadata").get("managedFields"))
    if entries or not live:
        return entries
    former = Owner(BEFORE_APPLY, "Update", owner.api_version)
    fields = compare({}, _bare(live), structure).added | compare({}, _bare(live), structure).modified
    return _with({}, former, fields - _NOBODYS, now)


def _pruned(
    proposed: JsonObject, entries: Iterable[Entry], before: Fields, structure: Structure
) -> JsonObject:
    """Without what the applier owned before and nobody owns now."""
    everything = _whole(proposed, structure)
    last = with_named(before, structure)
    owned = with_named(frozenset(path for entry in entries for path in entry.fields), structure)
    bare = without(proposed, last, structure)
    # With an object or item goes what is in it: what has an owner comes back, then what was never its own.
    rest = without(proposed, everything - _whole(bare, structure) - owned, structure)
    return without(proposed, (everything - _whole(rest, structure)) & last, structure)


def _whole(obj: JsonObject, structure: Structure) -> Fields:
    return with_named(fields_of(obj, structure), structure)


def _conflicts(entries: Entries, owner: Owner, taken: Fields) -> dict[tuple[str, ...], tuple[Owner, Fields]]:
    found = {}
    for identity, entry in entries.items():
        fields = entry.fields & taken
        if identity != owner.identity and fields:
            found[identity] = (entry.owner, fields)
    return found


def _are_kubectls_own(
    conflicts: Mapping[tuple[str, ...], tuple[Owner, Fields]],
    live: JsonObject,
    structure: Structure,
    owner: Owner,
) -> bool:
    """Whether kubectl only takes over what its client-side apply wrote and nobody changed since."""
    annotation = child(live, "metadata", "annotations").get(_LAST_APPLIED)
    if owner.manager != _KUBECTL or not isinstance(annotation, str):
        return False
    try:
        last = loads(annotation)
    except ValueError:
        return False
    if not isinstance(last, dict):
        return False
    changes = compare(live, merged(live, last, structure), structure)
    still = fields_of(last, structure) - changes.added - changes.modified - changes.removed
    return all(fields <= still for _, fields in conflicts.values())


def _with_last_applied(obj: JsonObject, config: JsonObject, owner: Owner) -> JsonObject:
    """kubectl's annotation, where an object has it, goes with what kubectl applies."""
    annotations = child(obj, "metadata", "annotations")
    if owner.manager != _KUBECTL or _LAST_APPLIED not in annotations:
        return obj
    said = clone_object(config)
    child(said, "metadata", "annotations").pop(_LAST_APPLIED, None)
    text = dumps(said).decode() + "\n"
    meta = {**child(obj, "metadata"), "annotations": {**annotations, _LAST_APPLIED: text}}
    return {**obj, "metadata": meta}


def _conflict_error(conflicts: Mapping[tuple[str, ...], tuple[Owner, Fields]]) -> ApiError:
    causes = []
    lines = []
    for owner, fields in sorted(conflicts.values(), key=lambda pair: pair[0].identity):
        who = _described(owner)
        paths = sorted(shown(path) for path in fields)
        causes += [Cause("FieldManagerConflict", path, f"conflict with {who}") for path in paths]
        lines.append((who, paths))
    count = f"{len(causes)} conflict" + ("s" if len(causes) > 1 else "")
    if len(causes) == 1:
        told = f"conflict with {lines[0][0]}: {lines[0][1][0]}"
    else:
        told = "\n".join(
            f"conflicts with {who}:\n" + "\n".join(f"- {path}" for path in paths) for who, paths in lines
        )
    message = f"Apply failed with {count}: {told}"
    return ApiError(409, "Conflict", message, {"causes": [cause.as_json() for cause in causes]})


def _described(owner: Owner) -> str:
    text = dumps(owner.manager).decode()
    if owner.subresource:
        text += f" with subresource {dumps(owner.subresource).decode()}"
    if owner.operation == "Update":
        text += f" using {owner.api_version}"
    return text


def _refuse(what: str, path: Path, why: str) -> ApiError:
    """Upstream answers 500 for a configuration that does not fit its schema."""
    return ApiError(500, "", f"failed to create typed patch object ({what}): {shown(path)}: {why}")


def _check(config: Any, structure: Structure, what: str, path: Path = ()) -> None:
    """Nobody can own a field that is unknown, or one of two items with one key."""
    if structure.relation == "granular" and isinstance(config, dict):
        for name, item in config.items():
            member, where = structure.member(name), (*path, f"f:{name}")
            if not member.known:
                raise _refuse(what, where, "field not declared in schema")
            _check(item, member.structure, what, where)
    elif structure.relation in ("keyed", "set") and isinstance(config, list):
        seen = set()
        for item in config:
            element = element_of(item, structure)
            if element in seen:
                raise _refuse(what, path, f"duplicate entries for key {shown((element,))}")
            seen.add(element)
            _check(item, structure.item(), what, (*path, element))
