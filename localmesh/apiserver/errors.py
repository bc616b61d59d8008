"""Failures as Kubernetes reports them: an HTTP code plus a `Status` object.

One exception type crosses module borders, so that HTTP handlers and in-process callers see the same thing.
Messages and causes follow upstream wording where clients look at it (recorded cases: kubernetes-api.md,
App. E).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localmesh.apiserver.jsonvalue import JsonObject


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason an object is invalid: upstream's FieldError (`field` dotted,
    `message` without the field).
    """

    reason: str
    field: str
    message: str

    def as_json(self) -> JsonObject:
        return {"reason": self.reason, "message": self.message, "field": self.field}

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """A refused or failed request; `body()` is the `Status` clients receive."""

    def __init__(self, code: int, reason: str, message: str, details: JsonObject | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.continue_token = ""
        """Where an expired list may go on, inconsistently."""

    @property
    def status(self) -> int:
        """The HTTP status code (the same as `code`)."""
        return self.code

    def body(self) -> JsonObject:
        status: JsonObject = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


def describe(kind: str, group: str, name: str = "") -> JsonObject:
    """The `details` of a Status about one object; `kind` is the plural or the kind, as upstream varies."""
    details: JsonObject = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    details["kind"] = kind
    return details


def qualified(kind: str, group: str) -> str:
    return f"{kind}.{group}" if group else kind


def not_found(kind: str, group: str, name: str) -> ApiError:
    message = f'{qualified(kind, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, describe(kind, group, name))


def no_such_resource() -> ApiError:
    """The path names no known resource type."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: str, group: str, name: str) -> ApiError:
    message = f'{qualified(kind, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, describe(kind, group, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(kind: str, group: str, name: str, why: str = MODIFIED) -> ApiError:
    message = f'Operation cannot be fulfilled on {qualified(kind, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, describe(kind, group, name))


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    texts = list(dict.fromkeys(str(cause) for cause in causes))
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = describe(kind, group, name)
    details["causes"] = [cause.as_json() for cause in causes]
    return ApiError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {joined}', details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(kind: str, group: str, name: str, why: str) -> ApiError:
    named = f'{qualified(kind, group)} "{name}"' if name else qualified(kind, group)
    return ApiError(403, "Forbidden", f"{named} is forbidden: {why}", describe(kind, group, name))


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def method_not_allowed(
    message: str = "the server does not allow this method on the requested resource",
) -> ApiError:
    return ApiError(405, "MethodNotAllowed", message, {})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", message + ", ".join(accepted))


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    message = "only the following media types are accepted: " + ", ".join(accepted)
    return ApiError(406, "NotAcceptable", message)


def expired(requested: int, floor: int) -> ApiError:
    """The watch or list asks for a revision older than the window we keep."""
    return ApiError(410, "Expired", f"too old resource version: {requested} ({floor})")


def continue_expired(token: str) -> ApiError:
    """`token` goes on from the same place in the present state; client-go shows it to who wants it."""
    message = (
        "The provided continue parameter is too old to display a consistent list result. You can start a new "
        "list without the continue parameter, or use the continue token in this response to retrieve the "
        "remainder of the results. Continuing with the provided token results in an inconsistent list - "
        "objects that were created, modified, or deleted between the time the first chunk was returned and "
        "now may show up in the list."
    )
    error = ApiError(410, "Expired", message)
    error.continue_token = token
    return error


def revision_too_large(requested: int, current: int) -> ApiError:
    details: JsonObject = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    message = f"Timeout: Too large resource version: {requested}, current: {current}"
    return ApiError(504, "Timeout", message, details)


def internal(message: str) -> ApiError:
    details: JsonObject = {"causes": [{"message": message}]}
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", details)


def success(kind: str, group: str, name: str, uid: Any) -> JsonObject:
    """The Status that answers a finished deletion."""
    details = describe(kind, group, name)
    details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def required(field: str, message: str = "") -> Cause:
    return Cause("FieldValueRequired", field, f"Required value: {message}" if message else "Required value")


def invalid_value(field: str, shown: str, message: str) -> Cause:
    """`shown` is the offending value as JSON text."""
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {message}")


def not_supported(field: str, shown: str, supported: Sequence[str]) -> Cause:
    choices = ", ".join(f'"{choice}"' for choice in supported)
    return Cause("FieldValueNotSupported", field, f"Unsupported value: {shown}: supported values: {choices}")


def forbidden_field(field: str, message: str) -> Cause:
    return Cause("FieldValueForbidden", field, f"Forbidden: {message}")
