"""ObjectMeta: what the server fills in, what it keeps from changing, and what names may look like."""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

from localmesh.apiserver.errors import Cause, forbidden_field, invalid_value, required
from localmesh.apiserver.jsonvalue import JsonObject, dumps
from localmesh.apiserver.registry import Resource

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUALIFIED_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")

_ENDS = "must start and end with an alphanumeric character"
SUBDOMAIN_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
    f"{_ENDS} (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN.pattern}')"
)
LABEL_RULE: Final = (
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and {_ENDS} "
    f"(e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL.pattern}')"
)
LABEL_1035_RULE: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    f"validation is '{_LABEL_1035.pattern}')"
)
LABEL_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
    f"{_ENDS} (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_LABEL_VALUE.pattern}')"
)
QUALIFIED_NAME_RULE: Final = (
    f"name part must consist of alphanumeric characters, '-', '_' or '.', and {_ENDS} (e.g. 'MyName',  or "
    f"'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED_NAME.pattern}')"
)

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_GENERATED = 5
_MAX_BASE = 63 - _GENERATED
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations together, as upstream."""

KEPT_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "managedFields",
)


def now_text(offset_seconds: float = 0) -> str:
    """RFC 3339 to the second, as metav1.Time is written."""
    moment = datetime.now(UTC) + timedelta(seconds=offset_seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def generate_name(base: str) -> str:
    return base[:_MAX_BASE] + "".join(secrets.choice(_ALPHABET) for _ in range(_GENERATED))


def fill(resource: Resource, obj: JsonObject, namespace: str) -> None:
    """Complete the metadata of a new object in place.
    A missing name stays missing for validation to report.
    """
    meta = obj["metadata"]
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = generate_name(meta["generateName"])
    if resource.namespaced:
        meta["namespace"] = namespace
    else:
        meta.pop("namespace", None)
    for key in (*KEPT_FIELDS, "resourceVersion"):
        meta.pop(key, None)
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = now_text()
    if resource.is_custom or resource.generation:
        meta["generation"] = 1


def keep(new: JsonObject, old: JsonObject) -> None:
    """Put the fields only the server writes back to what `old` has, in place."""
    meta, before = new["metadata"], old["metadata"]
    for key in KEPT_FIELDS:
        if key in before:
            meta[key] = before[key]
        else:
            meta.pop(key, None)
    for key in ("name", "namespace", "generateName"):
        if key in before:
            meta.setdefault(key, before[key])


def validate_name(resource: Resource, name: str) -> str | None:
    """Why `name` will not do, or None."""
    if resource.group in ("rbac.authorization.k8s.io", "apiregistration.k8s.io"):
        if name in (".", "..") or "/" in name or "%" in name:
            return "may not be '.' or '..' nor contain '/' or '%'"
        return None
    if resource.key == "services":
        pattern, rule, limit = _LABEL_1035, LABEL_1035_RULE, 63
    elif resource.key == "namespaces":
        pattern, rule, limit = _LABEL, LABEL_RULE, 63
    else:
        pattern, rule, limit = _SUBDOMAIN, SUBDOMAIN_RULE, 253
    if len(name) > limit:
        return f"must be no more than {limit} bytes"
    return None if pattern.fullmatch(name) else rule


def validate(resource: Resource, obj: JsonObject, old: JsonObject | None) -> list[Cause]:
    meta = obj["metadata"]
    causes: list[Cause] = []
    name = meta.get("name") or ""
    if not name:
        causes.append(required("metadata.name", "name or generateName is required"))
    elif old is None and (problem := validate_name(resource, name)):
        causes.append(invalid_value("metadata.name", f'"{name}"', problem))
    if old is None or meta.get("labels") != old["metadata"].get("labels"):
        causes += validate_labels(meta.get("labels"), "metadata.labels")
    causes += _validate_annotations(meta.get("annotations"))
    causes += _validate_owners(meta.get("ownerReferences"))
    if old is not None:
        causes += _validate_finalizers(meta, old["metadata"])
    return causes


def validate_labels(labels: object, field: str) -> list[Cause]:
    if labels is None:
        return []
    if not isinstance(labels, dict):
        return [invalid_value(field, dumps(labels).decode(), "must be a map of strings")]
    causes = []
    for key, value in labels.items():
        causes += _validate_key(key, field)
        if not isinstance(value, str):
            causes.append(invalid_value(field, dumps(value).decode(), "must be a string"))
        elif len(value) > 63:
            causes.append(invalid_value(field, f'"{value}"', "must be no more than 63 bytes"))
        elif not _LABEL_VALUE.fullmatch(value):
            causes.append(invalid_value(field, f'"{value}"', LABEL_VALUE_RULE))
    return causes


def _validate_key(key: str, field: str) -> list[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not _SUBDOMAIN.fullmatch(prefix):
        return [invalid_value(field, f'"{key}"', f"prefix part {SUBDOMAIN_RULE}")]
    if not name or len(name) > 63 or not _QUALIFIED_NAME.fullmatch(name):
        return [invalid_value(field, f'"{key}"', QUALIFIED_NAME_RULE)]
    return []


def _validate_annotations(annotations: object) -> list[Cause]:
    field = "metadata.annotations"
    if annotations is None:
        return []
    if not isinstance(annotations, dict):
        return [invalid_value(field, dumps(annotations).decode(), "must be a map of strings")]
    causes = []
    size = 0
    for key, value in annotations.items():
        causes += _validate_key(key.lower(), field)
        if isinstance(value, str):
            size += len(key) + len(value)
        else:
            causes.append(invalid_value(field, dumps(value).decode(), "must be a string"))
    if size > MAX_ANNOTATIONS:
        causes.append(
            Cause("FieldValueTooLong", field, f"Too long: may not be more than {MAX_ANNOTATIONS} bytes")
        )
    return causes


def _validate_owners(owners: object) -> list[Cause]:
    field = "metadata.ownerReferences"
    if owners is None:
        return []
    if not isinstance(owners, list) or not all(isinstance(owner, dict) for owner in owners):
        return [invalid_value(field, dumps(owners).decode(), "must be a list of objects")]
    causes = []
    for position, owner in enumerate(owners):
        causes += [
            required(f"{field}[{position}].{key}", f"{key} must not be empty")
            for key in ("apiVersion", "kind", "name", "uid")
            if not owner.get(key)
        ]
    if sum(1 for owner in owners if owner.get("controller")) > 1:
        causes.append(
            invalid_value(field, dumps(owners).decode(), "Only one reference can have Controller set to true")
        )
    return causes


def _validate_finalizers(meta: JsonObject, before: JsonObject) -> list[Cause]:
    if "deletionTimestamp" not in before:
        return []
    added = [name for name in meta.get("finalizers") or [] if name not in (before.get("finalizers") or [])]
    if not added:
        return []
    shown = ", ".join(f'"{name}"' for name in added)
    message = (
        "no new finalizers can be added if the object is being deleted, found new finalizers "
        f"[]string{{{shown}}}"
    )
    return [forbidden_field("metadata.finalizers", message)]
