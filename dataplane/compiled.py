"""The hot modules as machine code: built by mypyc from the same sources, in a tree of their own.

`python -m dataplane.compiled` copies `smi` and `dataplane` to `build/compiled` and compiles MODULES there
(a C compiler and mypy are needed). `root()` names that tree while it is of the present sources, so that
an edited file is never run in its old form. Whoever starts a sidecar puts it before the sources.
The sidecar itself knows nothing of it and runs either way. ADR 0019 says why.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("smi", "dataplane")
MODULES: Final = (
    "smi/names.py",
    "smi/policy/access.py",
    "smi/policy/match.py",
    "smi/policy/path.py",
    "smi/policy/snapshot.py",
    "smi/policy/split.py",
    "dataplane/core/*.py",
    "dataplane/wire/*.py",
    "dataplane/wire/http2/*.py",
    "dataplane/serve/gate.py",
    "dataplane/serve/http*.py",
    "dataplane/serve/limits.py",
    "dataplane/serve/pool.py",
    "dataplane/serve/registry.py",
    "dataplane/serve/inbound.py",
    "dataplane/serve/outbound.py",
    "dataplane/serve/tls.py",
    "dataplane/state.py",
    "dataplane/telemetry.py",
    "dataplane/tracing/*.py",
)
"""What runs once or more per request; globs below SOURCES."""
LEFT_OUT: Final = frozenset(
    {
        "dataplane/core/outcome.py",  # an Enum with an `__init__`, which mypyc does not know
        "dataplane/core/balance.py",  # `Load` is referred to weakly, which compiled classes are not
        "dataplane/core/breaker.py",  # its classes are Loads
    }
)
_STAMP: Final = "STAMP"


def compiled_tree(sources: Path = SOURCES) -> Path:
    """Where the compiled form of `sources` belongs."""
    return sources / "build" / "compiled"


def root(sources: Path = SOURCES) -> Path | None:
    """The tree to put before `sources` on a sidecar's path; None while there is none of these sources."""
    tree = compiled_tree(sources)
    try:
        stamp = (tree / _STAMP).read_text()
    except OSError:
        return None
    return tree if stamp == digest(sources) else None


def search_path(sources: Path = SOURCES) -> str:
    """PYTHONPATH for a sidecar: the compiled tree if there is one, then the sources."""
    tree = root(sources)
    return str(sources) if tree is None else f"{tree}{os.pathsep}{sources}"


def digest(sources: Path = SOURCES) -> str:
    """Of every source of PACKAGES and of this interpreter's binary interface."""
    seen = hashlib.sha256(str(sysconfig.get_config_var("SOABI")).encode())
    for path in _files(sources):
        seen.update(f"\0{path.relative_to(sources)}\0".encode())
        seen.update(path.read_bytes())
    return seen.hexdigest()


def hot_modules(sources: Path = SOURCES) -> list[str]:
    """Paths below `sources` of what is compiled, sorted."""
    found = {str(path.relative_to(sources)) for glob in MODULES for path in sources.glob(glob)}
    return sorted(found - LEFT_OUT)


def build(sources: Path = SOURCES) -> Path:
    """Make the tree anew. Raises CalledProcessError; what the compiler said is on the terminal then."""
    tree = compiled_tree(sources)
    shutil.rmtree(tree, ignore_errors=True)
    for path in _files(sources):
        copy = tree / path.relative_to(sources)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    wanted = digest(sources)
    _run([sys.executable, "-m", "mypyc", *hot_modules(sources)], tree)
    shutil.rmtree(tree / "build", ignore_errors=True)
    (tree / _STAMP).write_text(wanted)
    return tree


def _files(sources: Path) -> Iterable[Path]:
    return sorted(path for package in PACKAGES for path in (sources / package).rglob("*.py"))


def _run(command: Sequence[str], folder: Path) -> None:
    # All is one library. What it does not export, it can call directly and inline, and need not list by name.
    flags = f"{os.environ.get('CFLAGS', '')} -fvisibility=hidden".strip()
    env = os.environ | {"MYPYC_OPT_LEVEL": "2", "MYPYC_DEBUG_LEVEL": "0", "CFLAGS": flags}
    done = subprocess.run(  # noqa: S603 - this interpreter, on our own files
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
    done.check_returncode()


def lacking() -> str:
    """What this machine lacks to build the tree; empty if nothing."""
    if shutil.which(os.environ.get("CC", "cc")) is None:
        return "there is no C compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are not installed (Debian: python3-dev)"
    if importlib.util.find_spec("mypyc") is None:
        return "mypy is not installed"
    return ""


def main() -> int:
    if root() is None:
        reason = lacking()
        if reason:
            sys.stdout.write(f"sidecars run interpreted: {reason}\n")
            return 0
        sys.stdout.write("compiling the sidecar's hot modules: a minute or two\n")
        sys.stdout.flush()
        build()
    sys.stdout.write(f"compiled: {compiled_tree()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
