"""What a pod's status says, computed from the states of its containers. Pure.

Source: core/v1 PodStatus; kubelet `generateAPIPodStatus`, `getPhase`; conditions PodScheduled, Initialized,
ContainersReady, Ready (and readiness gates).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


def now_text(moment: datetime | None = None) -> str:
    """Kubernetes' Time: RFC 3339 in UTC with whole seconds."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class ContainerState:
    """What the node knows of one container. `state` and `last` are in the API's shape."""

    name: str
    image: str
    always: bool = False
    """A native sidecar: an init container with restartPolicy Always."""
    state: dict[str, Any] = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    started: bool = False
    ready: bool = False
    container_id: str = ""
    image_id: str = ""

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        terminated = self.state.get("terminated")
        return None if terminated is None else int(terminated["exitCode"])

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": dict(self.state),
            "lastState": dict(self.last),
            "ready": self.ready,
            "restartCount": self.restarts,
            "image": self.image,
            "imageID": self.image_id,
            "containerID": self.container_id,
            "started": self.started,
        }


@dataclass(frozen=True, slots=True)
class PodFacts:
    """Everything that goes into a status besides the containers."""

    restart_policy: str
    initialised: bool
    """All init containers did their work, native sidecars have started."""
    finished: bool = False
    """No container will run again (the phase becomes Succeeded or Failed)."""
    terminating: bool = False
    readiness_gates: tuple[str, ...] = ()
    pod_ip: str = ""
    host_ip: str = ""
    start_time: str = ""
    failed_reason: str = ""
    failed_message: str = ""
    generation: int | None = None


def phase(facts: PodFacts, init: Sequence[ContainerState], main: Sequence[ContainerState]) -> str:
    if facts.failed_reason:
        return "Failed"
    if facts.finished:
        everyone = [*main, *(state for state in init if not state.always)]
        return "Succeeded" if all(state.exit_code in (0, None) for state in everyone) else "Failed"
    begun = any(not state.state.get("waiting") or state.last for state in main)
    return "Running" if facts.initialised and begun else "Pending"


def pod_status(
    facts: PodFacts,
    init: Sequence[ContainerState],
    main: Sequence[ContainerState],
    previous: Mapping[str, Any],
    now: str,
) -> dict[str, Any]:
    """The whole `status`; transition times are kept from `previous` where a condition did not change."""
    status: dict[str, Any] = {
        "phase": phase(facts, init, main),
        "conditions": _conditions(facts, init, main, previous, now),
        "qosClass": "BestEffort",
        "startTime": facts.start_time,
        "containerStatuses": [state.as_json() for state in main],
    }
    if facts.host_ip:
        status |= {"hostIP": facts.host_ip, "hostIPs": [{"ip": facts.host_ip}]}
    if facts.pod_ip:
        status |= {"podIP": facts.pod_ip, "podIPs": [{"ip": facts.pod_ip}]}
    if init:
        status["initContainerStatuses"] = [state.as_json() for state in init]
    if facts.failed_reason:
        status |= {"reason": facts.failed_reason, "message": facts.failed_message}
    if facts.generation is not None:
        status["observedGeneration"] = facts.generation
    return status


def _conditions(
    facts: PodFacts,
    init: Sequence[ContainerState],
    main: Sequence[ContainerState],
    previous: Mapping[str, Any],
    now: str,
) -> list[dict[str, Any]]:
    unready = [state.name for state in [*main, *(s for s in init if s.always)] if not state.ready]
    completed = facts.finished and not facts.failed_reason
    containers_ready = facts.initialised and not unready and not facts.finished
    others = {item["type"]: item for item in previous.get("conditions") or ()}
    gates = [gate for gate in facts.readiness_gates if (others.get(gate) or {}).get("status") != "True"]
    not_ready = (
        ("PodCompleted", "")
        if completed
        else ("ContainersNotReady", f"containers with unready status: {unready}")
    )
    gate_reason = ("ReadinessGatesNotReady", f"waiting for {gates}") if containers_ready else not_ready
    incomplete = [s.name for s in init if not (s.always and s.started) and s.exit_code != 0]
    wanted = {
        "PodReadyToStartContainers": (bool(facts.pod_ip), "", ""),
        "Initialized": (
            facts.initialised,
            "ContainersNotInitialized",
            f"containers with incomplete status: {incomplete}",
        ),
        "Ready": (containers_ready and not gates, *gate_reason),
        "ContainersReady": (containers_ready, *not_ready),
        "PodScheduled": (True, "", ""),
    }
    conditions = []
    for kind, (good, reason, message) in wanted.items():
        old = others.pop(kind, {})
        value = "True" if good else "False"
        condition = {"type": kind, "status": value, "lastProbeTime": None, "lastTransitionTime": now}
        if old.get("status") == value and old.get("lastTransitionTime"):
            condition["lastTransitionTime"] = old["lastTransitionTime"]
        if not good and reason:
            condition |= {"reason": reason, "message": message}
        conditions.append(condition)
    return [*conditions, *others.values()]  # conditions of readiness gates belong to whoever sets them
