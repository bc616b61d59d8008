"""What /metrics says about the proxy itself: its config, its certificate, its splits, its process.

Callbacks read at scrape; nothing here costs anything between scrapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from dataplane.accesslog import AccessLog
from dataplane.control.discovery import Discovery
from dataplane.control.identity import Identity
from dataplane.process import resident_bytes
from dataplane.state import State
from dataplane.telemetry import Labels, Reading, Telemetry
from smi.names import AccessLogging

_SPLIT: Final = ("split", "service", "port", "backend")


def register(telemetry: Telemetry, state: State, identity: Identity, discovery: Discovery) -> None:
    """Add all gauges of this proxy to `telemetry`."""
    _register_control(telemetry, state, identity, discovery)
    _register_splits(telemetry, state)
    _register_turns(telemetry, state)
    _register_process(telemetry)


def register_serving(telemetry: Telemetry, state: State) -> None:
    """Add what can be summed over the processes of a proxy: its turns, memory and CPU time."""
    _register_turns(telemetry, state)
    _register_process(telemetry)


def access_log(
    wish: AccessLogging | None, telemetry: Telemetry, chance: Callable[[], float]
) -> AccessLog | None:
    """The access log that is wished for, with gauges that say how it fares; None if none is."""
    if wish is None:
        return None
    log = AccessLog(wish, time.time, chance)
    telemetry.gauge(
        "access_log_lines_total",
        "Lines of the access log; those dropped found its queue full.",
        ("outcome",),
        lambda: [(("written",), log.written), (("dropped",), log.dropped)],
        "counter",
    )
    return log


def _register_process(telemetry: Telemetry) -> None:
    gauge = telemetry.gauge
    gauge("process_resident_memory_bytes", "Resident memory.", (), lambda: [((), resident_bytes())])
    gauge("process_cpu_seconds_total", "CPU time.", (), lambda: [((), time.process_time())], "counter")


def _register_control(telemetry: Telemetry, state: State, identity: Identity, discovery: Discovery) -> None:
    plain: tuple[tuple[str, str, str, Reading], ...] = (
        ("config_revision", "gauge", "Revision of the config in force.", lambda: [((), state.revision)]),
        (
            "controller_connected",
            "gauge",
            "1 while a config stream is up; without one the last good config stays in force.",
            lambda: [((), int(state.connected))],
        ),
        (
            "config_quarantined_patterns",
            "gauge",
            "Patterns that do not compile here and match nothing.",
            lambda: [((), len(state.quarantined()))],
        ),
        ("subscriptions", "gauge", "Destinations held.", lambda: [((), len(state.subscriptions))]),
        ("config_streams_total", "counter", "Config streams opened.", lambda: [((), discovery.streams)]),
        (
            "config_updates_total",
            "counter",
            "Config updates by outcome.",
            lambda: [(("applied",), discovery.applied), (("refused",), discovery.refused)],
        ),
        (
            "certificate_expiry_timestamp_seconds",
            "gauge",
            "End of the certificate's validity, Unix time.",
            lambda: [((), identity.not_after)],
        ),
        ("certificates_total", "counter", "Certificates obtained.", lambda: [((), identity.renewals)]),
        (
            "certificate_failures_total",
            "counter",
            "Failed attempts to obtain a certificate.",
            lambda: [((), identity.failures)],
        ),
    )
    for name, kind, help_text, read in plain:
        labels: Labels = ("outcome",) if name == "config_updates_total" else ()
        telemetry.gauge(f"smi_mesh_{name}", help_text, labels, read, kind)


def _register_splits(telemetry: Telemetry, state: State) -> None:
    def wanted() -> list[tuple[Labels, float]]:
        readings: dict[Labels, float] = {}
        for (service, port, split), backend, turns in state.turns():
            whole = sum(other.weight for other in turns.split.backends)
            key = (split, service, port, backend.service)
            readings[key] = readings.get(key, 0.0) + (backend.weight / whole if whole else 0.0)
        return list(readings.items())

    telemetry.gauge("smi_mesh_split_weight_ratio", "Share a backend should get.", _SPLIT, wanted)


def _register_turns(telemetry: Telemetry, state: State) -> None:
    def picks() -> list[tuple[Labels, float]]:
        readings: dict[Labels, float] = {}
        for (service, port, split), backend, turns in state.turns():
            readings[split, service, port, backend.service] = turns.tallies[backend.service].picks
        return list(readings.items())

    def skipped() -> list[tuple[Labels, float]]:
        readings: dict[Labels, float] = {}
        for (service, port, split), backend, turns in state.turns():
            readings[split, service, port, backend.service] = turns.tallies[backend.service].skipped
        return list(readings.items())

    telemetry.gauge("smi_mesh_split_picks_total", "Turns a backend got.", _SPLIT, picks, "counter")
    telemetry.gauge(
        "smi_mesh_split_skipped_total",
        "Turns a backend was left out of because it had no ready endpoint.",
        _SPLIT,
        skipped,
        "counter",
    )
