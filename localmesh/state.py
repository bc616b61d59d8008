"""What a cluster leaves on disk about itself: one JSON file, replaced atomically, and who that process is.

The file says what the daemon said last; whether it still lives is decided by pid *and* start time, so that a
reused pid is never mistaken for it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

DAEMON_MARK: Final = "LOCALMESH_DAEMON"
"""Environment variable that marks the daemon itself (value: cluster id)."""
OUR_FILES: Final = (
    "daemon.json",
    "daemon.log",
    "daemon.log.1",
    "daemon.lock",
    "network.json",
    "kubeconfig",
    "state.db",
    "state.db-wal",
    "state.db-shm",
)
OUR_DIRS: Final = ("pods", "pki", "prometheus")


@dataclass(frozen=True, slots=True)
class Info:
    """A cluster as its daemon describes it."""

    state_dir: Path
    cluster: str
    """Eight hexadecimal digits that depend on the state directory."""
    mode: str
    """`netns` or `loopback`."""
    phase: str
    """What the daemon does now; `ready` when it is up."""
    pid: int
    pid_started: str
    """Start time of the process in the kernel's own unit."""
    started: str
    """RFC 3339."""
    api: str = ""
    """URL of the API server."""
    node_address: str = ""
    pod_cidr: str = ""
    service_cidr: str = ""
    prometheus: str = ""
    """URL of its Prometheus; empty without one."""
    limits: tuple[str, ...] = ()
    error: str = ""
    """Why starting failed, in words for the user."""

    @property
    def kubeconfig(self) -> Path:
        return self.state_dir / "kubeconfig"

    @property
    def log(self) -> Path:
        return self.state_dir / "daemon.log"

    @property
    def is_ready(self) -> bool:
        return self.phase == "ready"

    @property
    def is_alive(self) -> bool:
        return bool(self.pid_started) and process_start(self.pid) == self.pid_started


def cluster_id(state_dir: Path) -> str:
    """The same directory always gives the same id, also after a crash, also without any file in it."""
    return hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:8]


def process_start(pid: int) -> str:
    """Start time of a running process (clock ticks since boot), "" if there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace `path` in one step; readable by its owner only."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when it is missing or cannot be read as one."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_info(info: Info) -> None:
    value = asdict(info) | {"state_dir": str(info.state_dir)}
    write_json(info.state_dir / "daemon.json", value)


def read_info(state_dir: Path) -> Info | None:
    """What the daemon of `state_dir` wrote last, None if it never did (or the file is damaged)."""
    value = read_json(state_dir / "daemon.json")
    try:
        known = {name: value[name] for name in Info.__slots__ if name in value}
        info = Info(**known)
        return replace(info, state_dir=state_dir, limits=tuple(info.limits))
    except TypeError:
        return None
