"""Turns itself into one container process: the last Python code that runs before the workload.

Run as `python -I -S launcher.py FD` with a JSON document (see `read_order`) readable on file
descriptor FD. It joins or makes the namespaces, mounts the volumes, takes on the identity and then
replaces itself by the workload, so the pid stays the one the node waits for. It is a program of its
own and imports four standard-library modules only, because its start-up time is paid once per
container. It must not import anything of localmesh.

Failures end as exit code 126 (set-up) or 127 (command not found) with one line on stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
SIGKILL = 9
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx")

# These host files are replaced per pod, so a bind mount over them (as in a container host) is not kept.
POD_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname")


class SetupError(Exception):
    """A step of the set-up failed; the message says which and why."""


_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise SetupError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mount {source} on {target}")


def _join(path: str, kind: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, kind), f"enter namespace {path}")
    finally:
        os.close(descriptor)


def _other_mounts() -> list[str]:
    """Mount points besides `/`, parents before children."""
    points: list[str] = []
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:  # noqa: PTH123 (pathlib costs start-up time)
        for line in lines:
            point = line.split(" ")[4].encode().decode("unicode_escape")
            if point != "/" and point not in points:
                points.append(point)
    return points


def _inside(path: str, parents: tuple[str, ...]) -> bool:
    return any(path == parent or path.startswith(parent + "/") for parent in parents)


def _copy_mounts(root: str, hidden: tuple[str, ...]) -> None:
    """Bind every mount of the host into `root`; children of a recursively bound one come with it."""
    done: tuple[str, ...] = ()
    for point in _other_mounts():
        if _inside(point, done) or _inside(point, hidden) or point in POD_FILES or _inside(root, (point,)):
            continue
        if not os.path.exists(point):  # noqa: PTH110 (as above)
            continue
        try:
            _mount(point, root + point, flags=MS_BIND | MS_REC)
        except SetupError:
            continue  # an unreadable FUSE or stale mount of the host is not the pod's business
        done += (point,)


def _build_root(base: str, hidden: tuple[str, ...]) -> str:
    """A copy-on-write view of the host's root under `base`: what a pod writes is gone with it."""
    _mount("tmpfs", base, "tmpfs", 0, "mode=0755")
    upper, work, root = base + "/upper", base + "/work", base + "/root"
    for directory in (upper, work, root):
        os.mkdir(directory)  # noqa: PTH102 (as above)
    _mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    _copy_mounts(root, (*hidden, "/dev"))
    _make_dev(root)
    return root


def _hide(root: str, directory: str) -> None:
    if os.path.isdir(root + directory) and not os.path.islink(root + directory):  # noqa: PTH112, PTH114 (as above)
        _mount("tmpfs", root + directory, "tmpfs", 0, "mode=" + ("1777" if directory == "/tmp" else "0755"))  # noqa: S108 (a name, not a file)


def _make_dev(root: str) -> None:
    """A device directory of the pod's own, so that nothing it puts there reaches the host's."""
    dev = root + "/dev"
    _mount("tmpfs", dev, "tmpfs", 0, "mode=0755")
    for name in DEVICES:
        if os.path.exists("/dev/" + name):  # noqa: PTH110 (as above)
            os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
            _mount("/dev/" + name, f"{dev}/{name}", flags=MS_BIND)
    os.mkdir(dev + "/shm")  # noqa: PTH102 (as above)
    _mount("tmpfs", dev + "/shm", "tmpfs", 0, "mode=1777")
    if os.path.isdir("/dev/pts"):  # noqa: PTH112 (as above)
        os.mkdir(dev + "/pts")  # noqa: PTH102 (as above)
        _mount("/dev/pts", dev + "/pts", flags=MS_BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink("/proc/self/fd" + target, f"{dev}/{name}")  # noqa: PTH211 (as above)


def _resolve(root: str, path: str) -> str:
    """`path` as seen with `root` as `/`: absolute links on the way stay inside `root`."""
    done = ""
    rest = [part for part in path.split("/") if part and part != "."]
    links = 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        step = f"{done}/{part}"
        if os.path.islink(root + step):  # noqa: PTH114 (as above)
            links += 1
            if links > 40:
                raise SetupError(f"mountPath {path}: too many symbolic links")
            target = os.readlink(root + step)  # noqa: PTH115 (as above)
            rest = [piece for piece in target.split("/") if piece and piece != "."] + rest
            done = "" if target.startswith("/") else done
            continue
        done = step
    return root + done


def _bind(root: str, source: str, target: str, read_only: bool) -> None:
    place = _resolve(root, target)
    if os.path.isdir(source):  # noqa: PTH112 (as above)
        os.makedirs(place, exist_ok=True)  # noqa: PTH103 (as above)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120 (as above)
        if not os.path.exists(place):  # noqa: PTH110 (as above)
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    _mount(source, place, flags=MS_BIND)
    if read_only:
        _mount(source, place, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def _write(root: str, path: str, text: str) -> None:
    """Replace a file of the pod's own root (a link there may point into a hidden directory)."""
    place = root + path
    if os.path.lexists(place):
        os.unlink(place)  # noqa: PTH108 (as above)
    descriptor = os.open(place, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _pivot(root: str) -> None:
    machine = os.uname().machine
    if machine in SYS_PIVOT_ROOT:
        os.chdir(root)
        _check(_libc.syscall(SYS_PIVOT_ROOT[machine], b".", b"."), "pivot_root")
        _check(_libc.umount2(b".", MNT_DETACH), "detach the host's root")
    else:
        os.chroot(root)
    os.chdir("/")


def _enter_new_namespaces(order: dict[str, Any]) -> None:
    if order["netns"]:
        _join(order["netns"], CLONE_NEWNET)
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWUTS), "unshare mount and host name")
    hostname = order["hostname"].encode()
    _check(_libc.sethostname(hostname, len(hostname)), "set the host name")
    _mount("none", "/", flags=MS_REC | MS_PRIVATE)
    hidden = tuple(order["hide"])
    root = _build_root(order["base"], hidden)
    for directory in hidden:
        _hide(root, directory)
    for path, text in order["files"].items():
        _write(root, path, text)
    for mount in order["mounts"]:
        _bind(root, mount["source"], mount["target"], mount["read_only"])
    _pivot(root)


def _join_container(pid: int) -> None:
    """For exec and exec probes: the namespaces of a container that runs already."""
    for name, kind in (("net", CLONE_NEWNET), ("uts", CLONE_NEWUTS), ("mnt", CLONE_NEWNS)):
        _join(f"/proc/{pid}/ns/{name}", kind)


def _take_identity(order: dict[str, Any]) -> None:
    gid, uid = order["gid"], order["uid"]
    if gid is not None or uid is not None:
        os.setgroups(order["groups"])
    if gid is not None:
        os.setgid(gid)
    if uid is not None:
        os.setuid(uid)


def _take_terminal() -> None:
    """Make the terminal on stdin the controlling one: job control and SIGWINCH need that."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _die_with_parent(parent: int) -> None:
    _check(_libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        raise SetupError("the node's process is gone")


def read_order(descriptor: int) -> dict[str, Any]:
    """The order: netns path or "", join pid or 0, isolate, base, hide, files, mounts, hostname, uid, gid,
    groups, cwd, argv, env, tty, a descriptor to close when the workload takes over, parent pid."""
    with os.fdopen(descriptor, "r", encoding="utf-8") as file:
        order: dict[str, Any] = json.load(file)
    return order


def _start(order: dict[str, Any]) -> None:
    if order["tty"]:
        _take_terminal()
    if order["join"]:
        _join_container(order["join"])
    elif order["isolate"]:
        _enter_new_namespaces(order)
    try:
        os.chdir(order["cwd"])
    except OSError as error:
        raise SetupError(f"workingDir {order['cwd']}: {error.strerror}") from error
    _take_identity(order)
    _die_with_parent(order["parent"])  # after the identity: a change of credentials clears the signal
    os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 (starting the workload is the job)


def main() -> None:
    order = read_order(int(sys.argv[1]))
    os.set_inheritable(order["entered"], False)  # its end is how the node learns that the workload runs
    try:
        _start(order)
    except FileNotFoundError as error:
        sys.stderr.write(f"localmesh: cannot start {order['argv'][0]!r}: {error.strerror}\n")
        sys.exit(127)
    except (SetupError, OSError) as error:
        sys.stderr.write(f"localmesh: cannot start the container: {error}\n")
        sys.exit(126)


if __name__ == "__main__":
    main()
