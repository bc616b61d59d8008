"""The circuit breakers of one process: their clock, their log lines and their metrics. (R16)"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from dataplane.core.breaker import Breaker, Breakers, Member
from dataplane.core.outbound import Router
from dataplane.serve.gate import Serving
from dataplane.state import State
from dataplane.telemetry import Labels, Telemetry

_log = logging.getLogger("dataplane.breaker")


def make(serving: Serving, processes: int) -> Breakers:
    """None is open yet; `processes` share their thresholds."""
    breakers = Breakers(serving.loop.call_soon, _log_ejected, processes)
    serving.registry.on_tick(breakers.sweep)
    return breakers


def follow(state: State, router: Router, breakers: Breakers) -> None:
    """Have `router` prepare its ways anew whenever config changes the breakers."""

    def updated() -> None:
        if breakers.use(state.breakers):
            router.forget()

    state.on_update(updated)
    updated()


def register(telemetry: Telemetry, breakers: Breakers) -> None:
    """Add what there is to see of them to `telemetry`."""
    levels = ("service", "port", "threshold")
    place = levels[:2]

    def used() -> Iterator[tuple[Labels, float]]:
        for breaker in breakers:
            for entry, used, _ in breaker.levels():
                yield (*_place(breaker), entry.value), used

    def limits() -> Iterator[tuple[Labels, float]]:
        for breaker in breakers:
            for entry, _, most in breaker.levels():
                yield (*_place(breaker), entry.value), most

    def is_open() -> Iterator[tuple[Labels, float]]:
        for breaker in breakers:
            for entry, used, most in breaker.levels():
                yield (*_place(breaker), entry.value), int(used >= most)

    def rejected() -> Iterator[tuple[Labels, float]]:
        for breaker in breakers:
            for entry, count in breaker.rejected.items():
                yield (*_place(breaker), entry.value), count

    def ejected() -> Iterator[tuple[Labels, float]]:
        for breaker in breakers:
            if breaker.settings.outliers is not None:
                yield _place(breaker), breaker.ejected

    def ejections() -> Iterator[tuple[Labels, float]]:
        for breaker in breakers:
            if breaker.settings.outliers is not None:
                yield _place(breaker), breaker.ejections

    name = "smi_mesh_circuit_breaker"
    telemetry.gauge(f"{name}_used", "Under way, of what a Service's circuit breaker bounds.", levels, used)
    telemetry.gauge(f"{name}_limit", "The bound.", levels, limits)
    telemetry.gauge(f"{name}_open", "1 while the bound is reached.", levels, is_open)
    telemetry.gauge(
        f"{name}_rejected_total", "Refused because of it; retries: not made.", levels, rejected, "counter"
    )
    telemetry.gauge("smi_mesh_ejected_endpoints", "Endpoints left out as they failed.", place, ejected)
    telemetry.gauge(
        "smi_mesh_ejections_total", "Times an endpoint was left out.", place, ejections, "counter"
    )


def _place(breaker: Breaker) -> tuple[str, str]:
    service, _, port = breaker.key.rpartition(":")
    return service, port


def _log_ejected(member: Member, seconds: float) -> None:
    outliers = member.breaker.settings.outliers
    _log.warning("%s is left out of %s for %g s (%s)", member.name, member.breaker.key, seconds, outliers)
