"""Runs the suite against a mutant: a cluster of its own with the mutant in it, and the outcome by case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from conformance.report import Outcome
from localmesh.images import builtin_images
from tests.conformance.mutants.mutation import ROOT, SITE, VARIABLE, Mutant
from tests.conformance.mutants.trial import Trial

PARALLEL: Final = 4
PATIENCE: Final = 0.3
"""A mutant that does what it should does it within a second; most of those that do not never will."""
_OURS: Final = ("smi-mesh/controller", "smi-mesh/proxy")
_COMMAND_SECONDS: Final = 120
_BAD: Final = (Outcome.FAILED, Outcome.ERROR)


def image_table(mutant: Mutant) -> str:
    """The image table's extension that makes controller and sidecar the mutant: YAML for `--images`."""
    table = {
        image.name: {
            "command": list(image.command),
            "env": {**image.env, **_environment(mutant)},
        }
        for image in builtin_images()
        if image.name in _OURS
    }
    return yaml.safe_dump(table)


def _environment(mutant: Mutant) -> dict[str, str]:
    return {"PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}", VARIABLE: mutant.text}


@contextmanager
def cluster_of(mutant: Mutant) -> Iterator[Path]:
    """Start an embedded cluster whose mesh is the mutant; gives its kubeconfig, and takes it down.

    The installing command is the mutant too: the resource definitions come from it.
    """
    with tempfile.TemporaryDirectory(prefix="smi-mutant-") as folder:
        images, state = Path(folder, "images.yaml"), Path(folder, "state")
        images.write_text(image_table(mutant), encoding="utf-8")
        try:
            up = _local(state, "up", "--images", str(images), environment=_environment(mutant))
            yield Path(json.loads(up)["kubeconfig"])
        finally:
            _local(state, "down")


def _local(state: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "local", *arguments, "--state-dir", str(state), "--output", "json"],
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise RuntimeError(f"local {arguments[0]}: {done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Selection:
    """Which cases are run; all of them unless something is named."""

    cases: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


def try_mutant(mutant: Mutant, selection: Selection = Selection(), *, parallel: int = PARALLEL) -> Trial:
    """Run the suite, or a selection of it, against the mutant in a cluster of its own."""
    began = time.monotonic()
    with cluster_of(mutant) as kubeconfig:
        report = kubeconfig.with_name("report.yaml")
        _run_suite(kubeconfig, report, mutant, selection, parallel)
        found = yaml.safe_load(report.read_text(encoding="utf-8"))
        report.unlink()
    cases = {f"{case['group']}/{case['name']}": case for case in found["cases"]}
    return Trial(
        mutant,
        {name: Outcome(case["outcome"]) for name, case in cases.items()},
        {name: case["message"] for name, case in cases.items() if case["outcome"] in _BAD},
        time.monotonic() - began,
    )


def _run_suite(kubeconfig: Path, report: Path, mutant: Mutant, selection: Selection, parallel: int) -> None:
    command = [sys.executable, "-m", "conformance", "run", "--kubeconfig", str(kubeconfig)]
    command += ["--mesh", "smi-mesh", "--parallel", str(parallel), "--patience", str(PATIENCE)]
    command += ["--report", str(report), *(["--fresh"] if mutant.fresh else [])]
    for flag, names in (
        ("--case", selection.cases),
        ("--group", selection.groups),
        ("--feature", selection.features),
    ):
        command += [flag, ",".join(names)] if names else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode not in (0, 1, 3) or not report.is_file():
        raise RuntimeError(f"conformance run: exit code {done.returncode}: {done.stdout}{done.stderr}")
    if "interrupted" in done.stderr:
        raise KeyboardInterrupt
