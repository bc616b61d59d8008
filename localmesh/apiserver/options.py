"""Query parameters and DeleteOptions bodies as typed options; every mistake is an ApiError that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from localmesh.apiserver.call import (
    Call,
    DeleteOptions,
    FieldValidation,
    ListQuery,
    Propagation,
    Target,
    User,
)
from localmesh.apiserver.errors import (
    Cause,
    bad_request,
    forbidden_field,
    invalid,
    invalid_value,
    not_supported,
)
from localmesh.apiserver.jsonvalue import JsonObject, dumps, lookup
from localmesh.apiserver.selectors import FieldSelector, Requirement, parse_fields, parse_labels
from localmesh.apiserver.watch import WatchQuery

Query = Mapping[str, str]


def is_true(query: Query, name: str) -> bool:
    return query.get(name, "").lower() in ("1", "t", "true")


def read_call(user: User, query: Query, agent: str = "") -> Call:
    """`agent` is the User-Agent, whose first word is the field manager of who names none."""
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        cause = Cause(
            "FieldValueNotSupported", "dryRun", f'Unsupported value: "{dry_run}": supported values: "All"'
        )
        raise invalid("Options", "meta.k8s.io", "", [cause])
    given = query.get("fieldValidation") or "Warn"
    for choice in get_args(FieldValidation):
        if given == choice:
            return Call(
                user,
                dry_run == "All",
                choice,
                read_manager(query),
                agent_name(agent),
                is_true(query, "force"),
            )
    cause = Cause(
        "FieldValueNotSupported",
        "fieldValidation",
        f'Unsupported value: "{given}": supported values: "Ignore", "Strict", "Warn"',
    )
    raise invalid("Options", "meta.k8s.io", "", [cause])


MAX_MANAGER = 128
"""Bytes of a field manager's name, as upstream."""


def read_manager(query: Query) -> str:
    """The field manager; ApiError 422 for a name that is too long or cannot be printed."""
    name = query.get("fieldManager", "")
    if len(name.encode()) > MAX_MANAGER:
        cause = Cause(
            "FieldValueTooLong", "fieldManager", f"Too long: may not be more than {MAX_MANAGER} bytes"
        )
        raise invalid("Options", "meta.k8s.io", "", [cause])
    if not name.isprintable():
        shown = dumps(name).decode()
        cause = invalid_value("fieldManager", shown, "should only contain printable characters")
        raise invalid("Options", "meta.k8s.io", "", [cause])
    return name


def agent_name(agent: str) -> str:
    """`kubectl/v1.32.4 (linux/amd64)` → `kubectl`."""
    first = "".join(letter for letter in agent.partition("/")[0] if letter.isprintable())
    return first.encode()[:MAX_MANAGER].decode(errors="ignore") or "unknown"


def read_list(target: Target, query: Query) -> ListQuery:
    revision, token = query.get("resourceVersion", ""), query.get("continue", "")
    exact = _exact(query, revision, token)
    if token and revision not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    return ListQuery(
        labels=parse_labels(query.get("labelSelector")),
        fields=read_fields(target, query),
        limit=_integer(query, "limit") or 0,
        continue_token=token,
        revision=_revision(revision),
        exact=exact,
    )


def _exact(query: Query, revision: str, token: str) -> bool:
    """Whether a list is of one revision; ApiError 422 for options that contradict each other."""
    match = query.get("resourceVersionMatch", "")
    if "sendInitialEvents" in query:
        message = "sendInitialEvents is forbidden for list"
        raise invalid("ListOptions", "meta.k8s.io", "", [forbidden_field("sendInitialEvents", message)])
    if match and not revision:
        raise _list_options("resourceVersionMatch is forbidden unless resourceVersion is provided")
    if match and token:
        raise _list_options("resourceVersionMatch is forbidden when continue is provided")
    if match not in ("", "Exact", "NotOlderThan"):
        cause = not_supported("resourceVersionMatch", f'"{match}"', ["Exact", "NotOlderThan"])
        raise invalid("ListOptions", "meta.k8s.io", "", [cause])
    if match == "Exact" and revision == "0":
        message = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise _list_options(message)
    return match == "Exact" or bool(not match and revision not in ("", "0") and query.get("limit"))


def read_watch(target: Target, query: Query) -> WatchQuery:
    match, initial = query.get("resourceVersionMatch", ""), is_true(query, "sendInitialEvents")
    if "sendInitialEvents" in query and match != "NotOlderThan":
        raise _list_options("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    if match and "sendInitialEvents" not in query:
        raise _list_options(
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        )
    return WatchQuery(
        revision=_revision(query.get("resourceVersion", "")),
        labels=parse_labels(query.get("labelSelector")),
        fields=read_fields(target, query),
        bookmarks=is_true(query, "allowWatchBookmarks"),
        initial_events=initial,
        seconds=_seconds(query),
    )


def read_fields(target: Target, query: Query) -> FieldSelector:
    """The field selector; names of events.k8s.io/v1 are translated to those events are stored under."""
    resource = target.resource
    custom = resource.schema_of(target.version).selectable if resource.is_custom else resource.selectable
    selector = parse_fields(query.get("fieldSelector"), custom.__contains__)
    if resource.key != "events.events.k8s.io":
        return selector
    return FieldSelector(
        tuple(
            Requirement(_stored_event_field(one.key), one.operator, one.values)
            for one in selector.requirements
        )
    )


def _stored_event_field(name: str) -> str:
    if name == "reportingController":
        return "reportingComponent"
    return re.sub(r"^regarding\.", "involvedObject.", name)


def read_delete(query: Query, body: JsonObject | None) -> DeleteOptions:
    """DeleteOptions from the body, which wins, and from query parameters."""
    options = body or {}
    if options.get("kind") not in (None, "DeleteOptions"):
        raise bad_request(f"expected DeleteOptions, got {options['kind']}")
    grace = options.get("gracePeriodSeconds")
    if grace is None:
        grace = _integer(query, "gracePeriodSeconds")
    propagation = options.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = options.get("orphanDependents")
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    return DeleteOptions(
        grace_seconds=grace,
        propagation=_propagation(propagation),
        uid=lookup(options, "preconditions", "uid"),
        resource_version=lookup(options, "preconditions", "resourceVersion"),
    )


def deletes_dry(query: Query, body: JsonObject | None) -> bool:
    return "All" in ((body or {}).get("dryRun") or ()) or query.get("dryRun") == "All"


def _propagation(value: Any) -> Propagation | None:
    if value is None or value == "":
        return None
    for choice in get_args(Propagation):
        if value == choice:
            return choice  # type: ignore[no-any-return]  # get_args yields the literals
    message = f'Invalid value: "{value}": must be one of Background, Foreground, Orphan'
    raise invalid(
        "DeleteOptions", "meta.k8s.io", "", [Cause("FieldValueInvalid", "propagationPolicy", message)]
    )


def _list_options(message: str) -> Exception:
    return invalid("ListOptions", "meta.k8s.io", "", [forbidden_field("resourceVersionMatch", message)])


def _revision(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise bad_request(f"resourceVersion: Invalid value: {text!r}: must be a number")
    return int(text)


def _integer(query: Query, name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise bad_request(f"{name}: expected a number, got {text!r}") from None


def _seconds(query: Query) -> float | None:
    given = _integer(query, "timeoutSeconds")
    if given is not None and given > 0:
        return float(given)
    return duration(query["timeout"]) if query.get("timeout") else None


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def duration(text: str) -> float | None:
    """Seconds of a Go duration such as 5m34s; None when it is none."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
