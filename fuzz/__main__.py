"""`python -m fuzz [--seconds N] [NAME …]`: runs the targets one after the other, each in a process.

What a run finds to be new coverage is kept in `.fuzz/` (not checked in) and continued from the next
time; an input that breaks a target is left there too, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from fuzz.targets import CORPUS, TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description="Fuzz everything that reads a peer's bytes.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("names", nargs="*", choices=[[], *TARGETS], help="targets (default: all)")
    options = parser.parse_args()
    broken = []
    for name in options.names or TARGETS:
        kept = Path(".fuzz") / name
        kept.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fuzz.targets", name]
        command += [f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=10"]
        command += [f"-artifact_prefix={kept}-", "-verbosity=0", "-print_final_stats=1", str(kept)]
        print(f"{name}: {options.seconds} s from {len(list((CORPUS / name).iterdir()))} seeds", flush=True)
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own command line
            broken.append(name)
    print(f"{len(broken)} of {len(options.names or TARGETS)} targets broken {' '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
