"""Under which user and group a container runs: securityContext, as far as this machine allows it.

Our images are this installation's own files, so a `runAsUser` that could not read them would only break the
pod; then the container stays root with the requested group, and the node says so in its limits. The group is
always applied: the redirect rules tell the sidecar's own traffic by it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localmesh.images import SOURCE_ROOT


@dataclass(frozen=True, slots=True)
class Identity:
    """None = unchanged."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    limit: str = ""
    """Set when runAsUser was not applied: why."""


def permitted(path: Path, uid: int, gids: Iterable[int], bits: int) -> bool:
    """Whether a user may reach `path` (search every directory above it) and has `bits` (0-7) on it."""
    groups = frozenset(gids)
    steps = [(parent, 1) for parent in path.parents] + [(path, bits)]
    return all(_allows(step, uid, groups, wanted) for step, wanted in steps)


def _allows(path: Path, uid: int, gids: frozenset[int], bits: int) -> bool:
    if uid == 0:
        return True
    try:
        info = path.stat()
    except OSError:
        return False
    shift = 6 if info.st_uid == uid else 3 if info.st_gid in gids else 0
    return (stat.S_IMODE(info.st_mode) >> shift) & bits == bits


def needed_paths() -> tuple[tuple[Path, int], ...]:
    """What a container of ours must be able to use: interpreter, both library trees, our source."""
    paths = {Path(sys.executable), Path(sys.executable).resolve()}
    trees = {Path(sys.prefix), Path(sys.base_prefix), SOURCE_ROOT}
    return (*((path, 5) for path in sorted(paths)), *((tree, 5) for tree in sorted(trees)))


def identity_of(pod: Mapping[str, Any], container: Mapping[str, Any], am_root: bool) -> Identity:
    """Merge the pod's and the container's securityContext."""
    if not am_root:
        return Identity()
    outer = (pod.get("spec") or {}).get("securityContext") or {}
    inner = container.get("securityContext") or {}
    uid = inner.get("runAsUser", outer.get("runAsUser"))
    gid = inner.get("runAsGroup", outer.get("runAsGroup"))
    groups = tuple(dict.fromkeys([*(outer.get("supplementalGroups") or ()), *_fs_group(outer)]))
    if uid is not None and gid is None:
        gid = 0
    if not uid:
        return Identity(uid, gid, groups)
    gids = (gid, *groups)
    blocked = [path for path, bits in needed_paths() if not permitted(path, uid, gids, bits)]
    if not blocked:
        return Identity(uid, gid, groups)
    limit = (
        f"runAsUser {uid} is not applied (the container runs as root with group {gid}): "
        f"that user may not use {blocked[0]}"
    )
    return Identity(None, gid, groups, limit)


def account_files(identity: Identity, passwd: Path = Path("/etc/passwd")) -> dict[str, str]:
    """The pod's /etc/passwd with an entry for a user this machine does not know.

    Programs that ask for their own name fail without one (CRI-O adds the same line).
    """
    if not identity.uid:
        return {}
    known = passwd.read_text() if passwd.exists() else ""
    if any(line.split(":")[2:3] == [str(identity.uid)] for line in known.splitlines()):
        return {}
    entry = f"u{identity.uid}:x:{identity.uid}:{identity.gid or 0}::/:/usr/sbin/nologin\n"
    return {str(passwd): known + entry}


def _fs_group(security: Mapping[str, Any]) -> list[int]:
    group = security.get("fsGroup")
    return [] if group is None else [group]


def am_root() -> bool:
    return os.geteuid() == 0
