"""What is counted of UDP flows (`smi_mesh_udp_*`). Kept here, read by telemetry at scrape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dataplane.telemetry import MAX_SERIES, OVERFLOW, Labels, Telemetry

_LABELS: Final = ("direction", "peer", "service", "backend")


class UdpSeries:
    """Flows of one (direction, peer, service, backend); `sent` is towards the server."""

    __slots__ = ("flows", "received", "received_bytes", "sent", "sent_bytes")

    def __init__(self) -> None:
        self.flows = 0
        self.sent = 0
        self.sent_bytes = 0
        self.received = 0
        self.received_bytes = 0

    def out(self, payload: bytes) -> None:
        self.sent += 1
        self.sent_bytes += len(payload)

    def back(self, payload: bytes) -> None:
        self.received += 1
        self.received_bytes += len(payload)


class UdpCounters:
    """All of one proxy; bounded like every other family."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._series: dict[Labels, UdpSeries] = {}
        self._dropped = telemetry.counter(
            "smi_mesh_udp_dropped_total", "UDP datagrams dropped, by reason.", ("direction", "reason")
        )
        self._expired = telemetry.counter(
            "smi_mesh_udp_expired_total", "UDP flows forgotten because they were idle.", ("direction",)
        )
        readings: tuple[tuple[str, str, Callable[[UdpSeries], int]], ...] = (
            ("flows", "UDP flows begun.", lambda series: series.flows),
            ("sent_datagrams", "Datagrams sent to the server side.", lambda series: series.sent),
            ("sent_bytes", "Their payload.", lambda series: series.sent_bytes),
            ("received_datagrams", "Datagrams received from it.", lambda series: series.received),
            ("received_bytes", "Their payload.", lambda series: series.received_bytes),
        )
        for name, text, read in readings:
            self._register(telemetry, f"smi_mesh_udp_{name}_total", text, read)

    def _register(self, telemetry: Telemetry, name: str, text: str, read: Callable[[UdpSeries], int]) -> None:
        telemetry.gauge(
            name, text, _LABELS, lambda: [(key, read(one)) for key, one in self._series.items()], "counter"
        )

    def begin(self, direction: str, peer: str, service: str, backend: str) -> UdpSeries:
        """Count a new flow; its datagrams are to be told to what this returns."""
        key = (direction, peer, service, backend)
        if key not in self._series and len(self._series) >= MAX_SERIES:
            key = (OVERFLOW, OVERFLOW, OVERFLOW, OVERFLOW)
        series = self._series.setdefault(key, UdpSeries())
        series.flows += 1
        return series

    def drop(self, direction: str, reason: str, count: int = 1) -> None:
        if count:
            self._dropped.add((direction, reason), count)

    def expired(self, direction: str, count: int) -> None:
        if count:
            self._expired.add((direction,), count)


@dataclass(frozen=True, slots=True)
class UdpCommon:
    """What both directions share."""

    counters: UdpCounters
    idle: float
    """Seconds after which an unused flow is forgotten."""
