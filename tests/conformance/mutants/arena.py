"""Runs the suite against a mutant: a cluster of its own with the mutant in it, and the outcome by case."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from conformance.report import Outcome
from conformance.runner import Progress
from conformance.suite import Options, run_suite
from localmesh.images import builtin_images
from tests.conformance.mutants.mutation import ROOT, SITE, VARIABLE, Mutant

PARALLEL: Final = 4
_OURS: Final = ("smi-mesh/controller", "smi-mesh/proxy")
_COMMAND_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Trial:
    """What the suite said about one mutant."""

    mutant: Mutant
    outcomes: Mapping[str, Outcome]
    """Every case that ran or was skipped."""
    messages: Mapping[str, str]
    seconds: float

    @property
    def failed(self) -> frozenset[str]:
        return frozenset(case for case, outcome in self.outcomes.items() if outcome is Outcome.FAILED)

    @property
    def undecided(self) -> frozenset[str]:
        """Cases that ended in an error: no verdict, so neither a kill nor a survival."""
        return frozenset(case for case, outcome in self.outcomes.items() if outcome is Outcome.ERROR)

    @property
    def missed(self) -> frozenset[str]:
        """Cases that ran and should have failed but did not."""
        return (frozenset(self.mutant.kills) & self.outcomes.keys()) - self.failed

    @property
    def unexpected(self) -> frozenset[str]:
        """Cases that failed, or came to no verdict, and should have passed."""
        return (self.failed - frozenset(self.mutant.kills)) | self.undecided

    @property
    def as_expected(self) -> bool:
        return not self.missed and not self.unexpected


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


def try_mutant(mutant: Mutant, cases: Collection[str] = (), *, parallel: int = PARALLEL) -> Trial:
    """Run the suite, or these cases of it, against the mutant in a cluster of its own."""
    began = time.monotonic()
    with cluster_of(mutant) as kubeconfig:
        return try_in(kubeconfig, mutant, cases, parallel=parallel, began=began)


def try_in(kubeconfig: Path, mutant: Mutant, cases: Collection[str], *, parallel: int, began: float) -> Trial:
    """The same in a cluster that runs already."""
    options = Options(
        kubeconfig, "smi-mesh", cases=tuple(sorted(cases)), parallel=parallel, fresh=mutant.fresh
    )
    run = asyncio.run(run_suite(options, _silent))
    if run.interrupted:
        raise KeyboardInterrupt
    outcomes = {f"{result.case.group}/{result.case.name}": result for result in run.results}
    return Trial(
        mutant,
        {case: result.outcome for case, result in outcomes.items()},
        {case: result.message for case, result in outcomes.items() if result.bad},
        time.monotonic() - began,
    )


def _silent(_: Progress) -> None:
    """Nobody watches a trial's progress."""
