"""Clusters from the outside: start one, find it, stop it, clean up after a crash.

All functions block. They work on a state directory alone: the daemon may be running, gone, or killed at any
point before. `down` must always succeed in leaving nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from localmesh.daemon import Mode
from localmesh.images import SOURCE_ROOT
from localmesh.node import netns
from localmesh.node.network import NetworkError
from localmesh.node.process import CLUSTER_MARK, find_marked, kill_marked
from localmesh.prometheus import Wanted
from localmesh.state import DAEMON_MARK, OUR_DIRS, OUR_FILES, Info, cluster_id, process_start, read_info

POLL_S: Final = 0.03
STOP_S: Final = 15.0
"""How long `down` waits for an orderly end before it kills."""
LOG_TAIL: Final = 20

Progress = Callable[[str], None]
"""Called with the name of each phase as it begins."""

__all__ = ["ClusterError", "Info", "Removed", "down", "leftovers", "status", "up"]


class ClusterError(Exception):
    """A cluster could not be started or stopped; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What `down` found and removed."""

    was_running: bool
    processes: int
    """Processes that had to be killed because the daemon had not ended them."""
    namespaces: int
    files: bool


def _silent(_phase: str) -> None:
    return None


def status(state_dir: Path) -> Info | None:
    """The running cluster of `state_dir`; None when none runs (never started, stopped or crashed)."""
    info = read_info(state_dir)
    return info if info is not None and info.is_alive else None


def up(
    state_dir: Path,
    mode: Mode = "auto",
    *,
    images: Path | None = None,
    prometheus: Wanted | None = None,
    progress: Progress = _silent,
    timeout_s: float = 30.0,
) -> Info:
    """Start the cluster in the background and wait until it is ready; one that runs already is returned.

    What a crashed one left is cleaned up by the new daemon, its objects are kept. Raises ClusterError.
    """
    state_dir = state_dir.resolve()
    running = status(state_dir)
    if running is None or running.phase == "failed":
        _spawn(state_dir, mode, images, prometheus)
    elif mode not in ("auto", running.mode):
        raise ClusterError(f"a cluster of mode {running.mode} runs already in {state_dir}; run `down` first")
    elif prometheus is not None and not running.prometheus:
        raise ClusterError(f"a cluster without Prometheus runs already in {state_dir}; run `down` first")
    return _wait_until_ready(state_dir, progress, timeout_s)


def _spawn(state_dir: Path, mode: str, images: Path | None, prometheus: Wanted | None) -> None:
    """Start the daemon detached: its parent is gone at once, so nobody has to wait for it."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state_dir / "daemon.json").unlink(missing_ok=True)
    if (state_dir / "daemon.log").exists():  # what a crashed one said last is kept
        (state_dir / "daemon.log").replace(state_dir / "daemon.log.1")
    argv = [sys.executable, "-m", "localmesh", "run", "--state-dir", str(state_dir), "--mode", mode]
    if images is not None:
        argv += ["--images", str(images.resolve())]
    if prometheus is not None:
        argv += ["--prometheus", f"{prometheus.interval:g}"]
        argv += [f"--prometheus-rules={path.resolve()}" for path in prometheus.rules]
        argv += [f"--prometheus-port-annotation={name}" for name in prometheus.port_annotations]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))}
    env |= {DAEMON_MARK: cluster_id(state_dir), "PYTHONPATH": str(SOURCE_ROOT)}
    done = subprocess.run(  # noqa: S603 (the shell only puts "$@" in the background)
        [
            "/bin/sh",
            "-c",
            'log=$1; shift; "$@" >"$log" 2>&1 </dev/null &',
            "sh",
            str(state_dir / "daemon.log"),
            *argv,
        ],
        env=env,
        cwd="/",
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(f"cannot start the daemon: {done.stderr.decode(errors='replace').strip()}")


def _wait_until_ready(state_dir: Path, progress: Progress, timeout_s: float) -> Info:
    deadline = time.monotonic() + timeout_s
    shown = ""
    while time.monotonic() < deadline:
        info = read_info(state_dir)
        if info is not None and info.phase != shown and not info.error:
            shown = info.phase
            progress(shown)
        if info is not None and info.error:
            raise ClusterError(info.error)
        if info is not None and info.is_ready and info.is_alive:
            return info
        if (info is None and not _daemon_pids(state_dir) and _log_text(state_dir)) or (
            info is not None and not info.is_alive
        ):
            raise ClusterError(
                f"the daemon ended while starting ({shown or 'at once'}):\n{_log_text(state_dir)}"
            )
        time.sleep(POLL_S)
    raise ClusterError(
        f"the cluster was not ready within {timeout_s:.0f} s (phase: {shown or 'none'}):\n"
        f"{_log_text(state_dir)}"
    )


def _log_text(state_dir: Path) -> str:
    try:
        lines = (state_dir / "daemon.log").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_TAIL:])


def _daemon_pids(state_dir: Path) -> list[int]:
    return find_marked({DAEMON_MARK: cluster_id(state_dir)})


def down(state_dir: Path, *, keep: bool = False, progress: Progress = _silent) -> Removed:
    """Stop the cluster and remove everything it made; with `keep` its objects stay for the next `up`.

    Works as well when the daemon was killed. Raises ClusterError when something cannot be removed.
    """
    state_dir = state_dir.resolve()
    cluster = cluster_id(state_dir)
    running = status(state_dir)
    pids = _daemon_pids(state_dir)
    if running is not None and running.pid not in pids:
        pids.append(running.pid)
    if pids:
        progress("stopping pods")
        _stop(pids)
    progress("removing the network")
    killed = kill_marked({CLUSTER_MARK: cluster})
    removed = _sweep(cluster)
    progress("removing files")
    files = _remove_files(state_dir, keep=keep)
    return Removed(bool(pids), killed, removed, files)


def _stop(pids: list[int]) -> None:
    for number, limit in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if not any(_runs(pid) for pid in pids):
                return
            time.sleep(POLL_S)
    raise ClusterError(f"process {pids[0]} does not end, not even by SIGKILL")


def _runs(pid: int) -> bool:
    return bool(process_start(pid))


def _sweep(cluster: str) -> int:
    if os.geteuid() != 0:
        return 0
    try:
        return netns.sweep(cluster)
    except NetworkError as error:
        raise ClusterError(f"cannot remove the network: {error}") from error


def _remove_files(state_dir: Path, *, keep: bool) -> bool:
    """Remove what we made in the state directory, and the directory if nothing else is in it."""
    if not state_dir.is_dir():
        return False
    kept = {"state.db", "state.db-wal", "state.db-shm", "network.json", "kubeconfig"} if keep else set()
    for name in OUR_FILES:
        if name not in kept:
            (state_dir / name).unlink(missing_ok=True)
    for name in OUR_DIRS:
        if not (keep and name == "pki"):
            shutil.rmtree(state_dir / name, ignore_errors=True)
    if not keep and not any(state_dir.iterdir()):
        state_dir.rmdir()
    return True


def leftovers(state_dir: Path) -> list[str]:
    """What is still there of the cluster, in words; empty after `down`."""
    cluster = cluster_id(state_dir)
    found = [f"process {pid}" for pid in find_marked({CLUSTER_MARK: cluster}) + _daemon_pids(state_dir)]
    found += [f"network namespace {name}" for name in netns.netns_names(cluster)]
    if Path(f"/sys/class/net/{netns.host_link(cluster)}").exists():
        found.append(f"network link {netns.host_link(cluster)}")
    return found
