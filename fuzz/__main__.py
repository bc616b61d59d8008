"""`python -m fuzz [--seconds N] [NAME …]`: runs the targets one after the other, each in a process.

What a run finds to be new coverage is kept in `.fuzz/` (not checked in) and continued from the next
time; an input that breaks a target is left there too, and the exit code is 1. `--keep` fuzzes nothing: it
adds to the checked-in corpus some of `.fuzz/` that reach what its seeds do not.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.targets import CORPUS, TARGETS

MOST_KEPT = 24
"""Inputs checked in for each target, besides its seeds."""
LARGEST_KEPT = 1024
"""Bytes of one."""


def keep(name: str) -> None:
    """Have libFuzzer choose from what was found, and take some of that into the corpus."""
    found, corpus = Path(".fuzz") / name, CORPUS / name
    small = sorted((path for path in found.glob("*") if path.stat().st_size <= LARGEST_KEPT), key=_size)
    with tempfile.TemporaryDirectory() as folder:
        pool, chosen = Path(folder) / "pool", Path(folder) / "chosen"
        pool.mkdir()
        chosen.mkdir()
        for path in small:
            shutil.copy(path, pool)
        for seed in corpus.glob("seed-*"):
            shutil.copy(seed, chosen)  # -merge adds to what is there what it does not reach
        command = [
            sys.executable,
            "-m",
            "fuzz.targets",
            name,
            "-merge=1",
            "-verbosity=0",
            str(chosen),
            str(pool),
        ]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command line
        new = sorted((path for path in chosen.iterdir() if not path.name.startswith("seed-")), key=_size)
        for path in new[:: -(-len(new) // MOST_KEPT) or 1]:  # of all sizes
            shutil.copy(path, corpus / path.name[:12])
    print(f"{name}: {len(list(corpus.iterdir()))} inputs, {sum(map(_size, corpus.iterdir()))} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description="Fuzz everything that reads a peer's bytes.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("names", nargs="*", choices=[[], *TARGETS], help="targets (default: all)")
    parser.add_argument("--keep", action="store_true", help="check in what .fuzz/ has found, in small")
    options = parser.parse_args()
    broken = []
    if options.keep:
        for name in options.names or TARGETS:
            keep(name)
        return 0
    for name in options.names or TARGETS:
        kept = Path(".fuzz") / name
        kept.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fuzz.targets", name]
        command += [f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=10"]
        command += [f"-artifact_prefix={kept}-", "-verbosity=0", "-print_final_stats=1", str(kept)]
        print(f"{name}: {options.seconds} s from {len(list((CORPUS / name).glob('*')))} seeds", flush=True)
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own command line
            broken.append(name)
    print(f"{len(broken)} of {len(options.names or TARGETS)} targets broken {' '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
