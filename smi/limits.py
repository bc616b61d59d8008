"""What a Service's annotations say about limits: rate limits (R15) and circuit breaking (R16).

Text → orders and complaints, both as data. A part that is not understood is a complaint and has no
effect; every other part has. What an order refers to (`on`, `from`) is resolved by the compiler.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from smi.names import (
    CIRCUIT_BREAKER_ANNOTATION,
    CONNECTION_RATE_LIMIT_ANNOTATION,
    OUTLIER_DETECTION_ANNOTATION,
    RATE_LIMIT_ANNOTATION,
    NamespacedName,
)
from smi.policy.snapshot import CircuitBreaker, Limited, Outliers

ANNOTATIONS: Final = (
    RATE_LIMIT_ANNOTATION,
    CONNECTION_RATE_LIMIT_ANNOTATION,
    CIRCUIT_BREAKER_ANNOTATION,
    OUTLIER_DETECTION_ANNOTATION,
)
MAX_RATES: Final = 16
"""Rate limits in one annotation."""
MAX_NUMBER: Final = 10_000_000
DEFAULT_PENDING: Final = 1024
"""Requests that may wait where `max-connections` says nothing of them (Envoy's default as well)."""

_UNITS: Final = {"s": 1, "second": 1, "m": 60, "minute": 60, "h": 3600, "hour": 3600}
_RATE: Final = re.compile(r"([0-9]{1,8})/([a-z]+)")
_NUMBER: Final = re.compile(r"[0-9]{1,8}")
_PERCENT: Final = re.compile(r"([0-9]{1,3})%?")
_SECONDS: Final = re.compile(r"([0-9]{1,6})(ms|s|m|h)?")
_SCALES: Final = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests an order is about: those that meet a match of an HTTPRouteGroup, or any of its."""

    group: NamespacedName
    match: str = ""


@dataclass(frozen=True, slots=True)
class RateOrder:
    """One rate limit as its author wrote it, what it refers to not yet resolved."""

    what: Limited
    count: int
    seconds: int
    burst: int
    per_client: bool = False
    source: NamespacedName | None = None
    """Only callers of this service account; None: all."""
    route: Route | None = None
    text: str = ""
    """In its normal form, for messages and metrics."""


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """All that the annotations of one Service say."""

    rates: tuple[RateOrder, ...] = ()
    breaker: CircuitBreaker | None = None

    def __bool__(self) -> bool:
        return bool(self.rates) or self.breaker is not None


@dataclass(frozen=True, slots=True)
class Complaint:
    """A part of an annotation that is not understood, and so has no effect."""

    annotation: str
    message: str


class _UnclearError(ValueError):
    """The text says what was expected."""


@dataclass(slots=True)
class _Reading:
    namespace: str
    complaints: list[Complaint] = field(default_factory=list)


def service_limits(
    annotations: Callable[[str], str | None], namespace: str
) -> tuple[ServiceLimits, tuple[Complaint, ...]]:
    """Read a Service of `namespace`; `annotations` gives the value of one, None where it is not set."""
    reading = _Reading(namespace)
    rates: list[RateOrder] = []
    for name, what in (
        (RATE_LIMIT_ANNOTATION, Limited.REQUESTS),
        (CONNECTION_RATE_LIMIT_ANNOTATION, Limited.CONNECTIONS),
    ):
        text = annotations(name)
        if text is not None:
            rates += _rates(reading, name, text, what)
    breaker = _breaker(
        reading, annotations(CIRCUIT_BREAKER_ANNOTATION), annotations(OUTLIER_DETECTION_ANNOTATION)
    )
    return ServiceLimits(tuple(rates), breaker), tuple(reading.complaints)


# --- rate limits ------------------------------------------------------------------------------------


def _rates(reading: _Reading, annotation: str, text: str, what: Limited) -> Iterator[RateOrder]:
    parts = [part for part in (part.strip() for part in re.split(r"[;\n]", text)) if part]
    if not parts:
        message = "it is empty: write a limit such as '100/s burst 200', or take the annotation away"
        reading.complaints.append(Complaint(annotation, message))
    known: set[str] = set()
    for part in parts[:MAX_RATES]:
        try:
            order = _rate(part, what, reading.namespace)
        except _UnclearError as error:
            message = f"{part[:_SHOWN]!r}: {error}; this limit has no effect"
            reading.complaints.append(Complaint(annotation, message))
            continue
        if order.text not in known:
            known.add(order.text)
            yield order
    if len(parts) > MAX_RATES:
        message = f"there are {len(parts)} limits, at most {MAX_RATES} are read; the rest has no effect"
        reading.complaints.append(Complaint(annotation, message))


def _rate(text: str, what: Limited, namespace: str) -> RateOrder:
    """`<count>/<unit> [burst <count>] [per client] [from [<ns>/]<account>] [on <group>[/<match>]]`."""
    words = text.split()
    count, seconds, unit = _count_per_unit(words[0], what)
    burst, per_client, source, route = count, False, None, None
    given: set[str] = set()
    at = 1
    while at < len(words):
        word = words[at]
        value = words[at + 1] if at + 1 < len(words) else ""
        if word in given:
            raise _UnclearError(f"{word!r} is said twice")
        given.add(word)
        if word == "burst":
            burst = _whole(value, "burst", 1)
        elif word == "per":
            if value != "client":
                raise _UnclearError(f"expected 'per client', got 'per {value[:_SHOWN]}'")
            per_client = True
        elif word == "from":
            source = _account(value, namespace)
        elif word == "on" and what is Limited.REQUESTS:
            route = _route(value, namespace)
        elif word == "on":
            raise _UnclearError("a connection meets no match; 'on' is for limits of requests")
        else:
            known = "burst, per client, from" + (", on" if what is Limited.REQUESTS else "")
            raise _UnclearError(f"{word[:_SHOWN]!r} is not known; after the rate may come {known}")
        at += 2
    normal = f"{count}/{unit}"
    normal += f" burst {burst}" if burst != count else ""
    normal += " per client" if per_client else ""
    normal += f" from {source}" if source else ""
    normal += f" on {route.group.name}" + (f"/{route.match}" if route.match else "") if route else ""
    return RateOrder(what, count, seconds, burst, per_client, source, route, normal)


def _count_per_unit(word: str, what: Limited) -> tuple[int, int, str]:
    found = _RATE.fullmatch(word)
    if found is None or found[2] not in _UNITS:
        raise _UnclearError(
            f"expected {what} per s, m or h such as '100/s' or '20/minute', got {word[:_SHOWN]!r}"
        )
    return _whole(found[1], "the rate", 1), _UNITS[found[2]], found[2][0]


def _account(value: str, namespace: str) -> NamespacedName:
    space, slash, name = value.rpartition("/")
    if not name or "/" in space or (slash and not space):
        raise _UnclearError(
            f"'from' needs a service account, '<name>' or '<namespace>/<name>', got {value[:_SHOWN]!r}"
        )
    return NamespacedName(space or namespace, name)


def _route(value: str, namespace: str) -> Route:
    group, slash, match = value.partition("/")
    if not group or (slash and not match) or "/" in match:
        raise _UnclearError(
            "'on' needs an HTTPRouteGroup of this namespace, '<group>' or '<group>/<match>', "
            f"got {value[:_SHOWN]!r}"
        )
    return Route(NamespacedName(namespace, group), match)


# --- circuit breaking ---------------------------------------------------------------------------------


def _breaker(reading: _Reading, breaker: str | None, outliers: str | None) -> CircuitBreaker | None:
    found = None
    if breaker is not None:
        values = _pairs(reading, CIRCUIT_BREAKER_ANNOTATION, breaker, _THRESHOLDS)
        found = CircuitBreaker(
            _int(values.get("max-connections")),
            _int(values.get("max-pending-requests")),
            _int(values.get("max-requests")),
            _int(values.get("max-retries")),
            _int(values.get("retry-budget")),
        )
        if found.max_pending is not None and found.max_connections is None:
            message = (
                "max-pending-requests counts requests that wait for one of max-connections, which is not "
                "given; without it nothing waits"
            )
            reading.complaints.append(Complaint(CIRCUIT_BREAKER_ANNOTATION, message))
        elif found.max_connections is not None and found.max_pending is None:
            found = CircuitBreaker(
                found.max_connections,
                DEFAULT_PENDING,
                found.max_requests,
                found.max_retries,
                found.retry_percent,
            )
    ejection = None
    if outliers is not None:
        values = _pairs(reading, OUTLIER_DETECTION_ANNOTATION, outliers, _OUTLIERS)
        errors = _int(values.get("consecutive-errors"))
        gateway = _int(values.get("consecutive-gateway-errors"))
        if errors is None and gateway is None:
            message = "neither consecutive-errors nor consecutive-gateway-errors is given; nothing is ejected"
            reading.complaints.append(Complaint(OUTLIER_DETECTION_ANNOTATION, message))
        else:
            base = values.get("base-ejection-time", 30.0)
            ejection = Outliers(
                errors,
                gateway,
                base,
                max(base, values.get("max-ejection-time", 300.0)),
                int(values.get("max-ejection-percent", 10)),
            )
    if ejection is None:
        return None if found == CircuitBreaker() else found
    known = found or CircuitBreaker()
    return CircuitBreaker(
        known.max_connections,
        known.max_pending,
        known.max_requests,
        known.max_retries,
        known.retry_percent,
        ejection,
    )


def breaker_text(breaker: CircuitBreaker) -> tuple[str, str]:
    """What the two annotations may say to mean this breaker; an empty text for one that need not be."""
    outliers = breaker.outliers
    thresholds: list[tuple[str, object]] = [
        ("max-connections", breaker.max_connections),
        ("max-pending-requests", breaker.max_pending),
        ("max-requests", breaker.max_requests),
        ("max-retries", breaker.max_retries),
        ("retry-budget", None if breaker.retry_percent is None else f"{breaker.retry_percent}%"),
    ]
    ejection: list[tuple[str, object]] = []
    if outliers is not None:
        ejection = [
            ("consecutive-errors", outliers.consecutive_errors),
            ("consecutive-gateway-errors", outliers.consecutive_gateway_errors),
            ("base-ejection-time", _milliseconds(outliers.base_seconds)),
            ("max-ejection-time", _milliseconds(outliers.max_seconds)),
            ("max-ejection-percent", f"{outliers.max_percent}%"),
        ]
    return _words(thresholds), _words(ejection)


def _milliseconds(seconds: float) -> str:
    return f"{seconds:.0f}s" if seconds.is_integer() else f"{seconds * 1000:.0f}ms"


def _words(pairs: list[tuple[str, object]]) -> str:
    return " ".join(f"{key}={value}" for key, value in pairs if value is not None)


def _pairs(
    reading: _Reading, annotation: str, text: str, known: dict[str, Callable[[str, str], float]]
) -> dict[str, float]:
    """`key=value` words with spaces or commas between them."""
    values: dict[str, float] = {}
    words = [word for word in re.split(r"[\s,;]+", text) if word]
    if not words:
        message = f"it is empty: write one or more of {', '.join(f'{key}=…' for key in known)}"
        reading.complaints.append(Complaint(annotation, message))
    for word in words:
        key, equals, value = word.partition("=")
        try:
            if not equals or key not in known:
                raise _UnclearError(f"expected one of {', '.join(f'{key}=…' for key in known)}")
            if key in values:
                raise _UnclearError("it is given twice, the first counts")
            values[key] = known[key](value, key)
        except _UnclearError as error:
            message = f"{word[:_SHOWN]!r}: {error}; this part has no effect"
            reading.complaints.append(Complaint(annotation, message))
    return values


def _whole(value: str, what: str, least: int) -> int:
    if _NUMBER.fullmatch(value) is None or not least <= int(value) <= MAX_NUMBER:
        raise _UnclearError(
            f"{what}: expected a whole number from {least} to {MAX_NUMBER}, got {value[:_SHOWN]!r}"
        )
    return int(value)


def _positive(value: str, key: str) -> float:
    return _whole(value, key, 1)


def _from_zero(value: str, key: str) -> float:
    return _whole(value, key, 0)


def _percent(value: str, key: str) -> float:
    found = _PERCENT.fullmatch(value)
    if found is None or int(found[1]) > 100:
        raise _UnclearError(f"{key}: expected a percentage from 0% to 100%, got {value[:_SHOWN]!r}")
    return int(found[1])


def _duration(value: str, key: str) -> float:
    found = _SECONDS.fullmatch(value)
    seconds = int(found[1]) * _SCALES[found[2]] if found else 0.0
    if not 0 < seconds <= 86400:
        raise _UnclearError(f"{key}: expected a time such as 500ms, 30s or 5m, a day at most, got {value!r}")
    return seconds


def _int(value: float | None) -> int | None:
    return None if value is None else int(value)


_THRESHOLDS: Final[dict[str, Callable[[str, str], float]]] = {
    "max-connections": _positive,
    "max-pending-requests": _from_zero,
    "max-requests": _positive,
    "max-retries": _from_zero,
    "retry-budget": _percent,
}
_OUTLIERS: Final[dict[str, Callable[[str, str], float]]] = {
    "consecutive-errors": _positive,
    "consecutive-gateway-errors": _positive,
    "base-ejection-time": _duration,
    "max-ejection-time": _duration,
    "max-ejection-percent": _percent,
}
