"""Every recorded kubectl command again, by the kubectl that is installed, on a cluster with a node.

Each is judged by its exit code, the recorded lines of its output and, where the record is of the same
client, the requests it made with their statuses. Where a cluster with columns, events and real pods rightly
answers otherwise than the recorder's server did, the answer is given here with the reason. Nothing else may
differ, and what is listed must still differ: the lists cannot grow stale.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localmesh import cluster
from tests.localmesh.apiserver import sweep
from tests.localmesh.apiserver.sweep import Recorded

KUBECTL = shutil.which("kubectl") or "kubectl"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

AS_RECORDED = {20: 63, 32: 70, 36: 71}
"""Commands of the 81 whose answer is the recorded one, by minor version of the client."""

RECORDS = {32: "kubectl-1.32-requests.txt", 36: "kubectl-1.36-requests.txt"}
"""Recorded clients by minor version."""

NEWER = 27
"""The first minor version that knows every command."""

COLUMNS = "the recorder's server had columns of custom resources and pods only"
STUB = "the recorder's pods answered exec with a fixed text"
EVENTS = "the recorder's server had no controllers that tell events"
TRACKS = "the recorder's server kept no managedFields, so kubectl had nothing to migrate or to keep"
GRACE = "pods end, and dependents go, a moment after the request; the recorder's were gone at once"

DRAIN = "drain local --ignore-daemonsets --force --timeout=3s"

ANSWERS: dict[str, tuple[str, str]] = {
    "get ns": (r"NAME +STATUS +AGE\ndefault +Active", COLUMNS),
    "get ct": (
        r"NAME +SPEC\nc1 +\* \* \*",
        "a definition's columns are all there are (recorded case `table`)",
    ),
    "get svc web -o wide": (r"NAME +TYPE +CLUSTER-IP .*\nweb +ClusterIP .*app=web", COLUMNS),
    "get nodes -o wide": (r"NAME +STATUS +ROLES .*\nlocal +Ready", COLUMNS),
    "exec deploy/web -- echo hi": (r"^hi\n", STUB),
    "cp ./scratch/dep.yaml p1:/tmp/x": (r"\A\Z", STUB),
    "top pods": (r"Metrics API not available", "nothing measures the pods: metrics.k8s.io is not served"),
    "events": (r"LAST SEEN +TYPE +REASON", EVENTS),
    "get events": (r"LAST SEEN +TYPE +REASON", EVENTS),
    "auth whoami": (r"Username +kubernetes-admin", "another user's kubeconfig"),
    DRAIN: (
        r"node/local cordoned\n(.*\n)*.*evicted\n(.*\n)*node/local (drained|evicted)",
        "eviction is served, which the recorder's server lacked",
    ),
}
"""Command → what it answers here, and why not what is recorded."""

REQUESTS: dict[str, str] = {
    "apply -f ./scratch/dep2.yaml --server-side": TRACKS,
    "apply -f ./scratch/dep2.yaml --server-side --force-conflicts --dry-run=server": TRACKS,
    "apply --server-side -f ./scratch/ct.yaml": TRACKS,
    "top pods": ANSWERS["top pods"][1],
    "delete pod p1 --wait --timeout=5s": GRACE,
    "delete deploy d1 --cascade=foreground --timeout=5s": GRACE,
    DRAIN: ANSWERS[DRAIN][1],
}
"""Commands that ask otherwise than is recorded, and why."""

OLD = "1.20 says it in other words"
OLD_CLIENT: dict[str, tuple[int, str, str]] = {
    "version": (0, r"^Server Version: .*smi-mesh-embedded", OLD),
    'patch ct c1 --subresource=status --type=merge -p {"status":{"x":1}}': (
        1, "unknown flag: --subresource", "known since 1.24",
    ),
    "explain deployment.spec.template.spec.containers": (
        0, r"^KIND: +Deployment(.*\n)*.*\bimage\t<string>", OLD,
    ),
    "explain ct.spec": (0, r"^KIND: +CronTab(.*\n)*.*cronSpec\t<string>", OLD),
    "events": (1, "unknown command", "known since 1.23"),
    "auth whoami": (1, "unknown command", "known since 1.26"),
    "wait --for=jsonpath={.status.readyReplicas}=3 deploy/web --timeout=3s": (
        1, "unrecognized condition", "known since 1.23",
    ),
    "kustomize ./scratch": (1, "unable to find one of 'kustomization.yaml'", OLD),
    "debug p1 --image=x": (1, r'^Error from server \(NotFound\): pods "p1" not found', OLD),
}  # fmt: skip
"""What Debian 12's kubectl 1.20 answers where it is not what is recorded: success or not, words, and why."""


@dataclass(frozen=True)
class Outcome:
    code: int | None
    output: list[str]
    requests: list[str]


@dataclass(frozen=True)
class Sweep:
    """A cluster, a directory with the recorded files, and kubectl in it."""

    directory: Path
    environment: dict[str, str]
    verbose: bool
    """Whether kubectl is to tell its requests."""

    def run(self, command: str) -> Outcome:
        words = [KUBECTL, *(["-v=6"] if self.verbose else []), *command.split(" ")]
        with subprocess.Popen(
            words,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            if command.startswith("port-forward"):  # until it is told to stop
                lines = [process.stdout.readline() for _ in range(2)]
                process.terminate()
                _, log = process.communicate()
                return Outcome(None, [line.rstrip("\n") for line in lines], list(sweep.requests_in(log)))
            out, log = process.communicate(timeout=30)
        output = [*sweep.output_in(log), *out.splitlines()]
        return Outcome(process.returncode, output, list(sweep.requests_in(log)))


@pytest.fixture
def swept(tmp_path: Path) -> Iterator[Sweep]:
    for name in ("scratch", "home"):
        (tmp_path / name).mkdir()
    for name, text in sweep.FILES.items():
        (tmp_path / "scratch" / name).write_text(text)
    images = tmp_path / "images.yaml"
    images.write_text(sweep.IMAGES)
    info = cluster.up(tmp_path / "cluster", "loopback", images=images)
    environment = {
        "KUBECONFIG": str(info.kubeconfig),
        "HOME": str(tmp_path / "home"),
        "PATH": os.environ["PATH"],
        "KUBE_EDITOR": "sed -i s/nginx:4/nginx:5/",
        "KUBECTL_EXTERNAL_DIFF": "diff -u",
    }
    yield Sweep(tmp_path, environment, verbose=client_minor() in RECORDS)
    cluster.down(tmp_path / "cluster")


def client_minor() -> int:
    told = subprocess.run([KUBECTL, "version", "--client", "-o", "json"], capture_output=True, check=True)
    return int(json.loads(told.stdout)["clientVersion"]["minor"].rstrip("+"))


def test_the_recorded_sweep(swept: Sweep) -> None:
    minor = client_minor()
    recorded = sweep.read(RECORDS.get(minor, RECORDS[32]))
    assert len(recorded) == 81
    usual = {DRAIN} if minor == 36 else set()
    if minor != 36:  # then the recorder's server had a pod from the start
        for command in ("create deployment d --image=nginx", "rollout status deploy/d --timeout=20s"):
            assert swept.run(command).code == 0
    problems: list[str] = []
    same = 0
    for record in recorded:
        if record.command.startswith("replace"):  # reads and writes: not while controllers write too
            assert swept.run("rollout status deploy/web --timeout=20s").code == 0
        outcome = swept.run(record.command)
        problem, as_recorded = judge(record, outcome, minor, listed=record.command not in usual)
        same += as_recorded
        if problem:
            shown = "\n".join(outcome.output[:8])
            problems.append(f"kubectl {record.command}: {problem}\n{shown}\nasked {outcome.requests}")
    assert not problems, f"{same} of {len(recorded)} as recorded\n" + "\n\n".join(problems)
    assert same == AS_RECORDED.get(minor, same), f"{same} of {len(recorded)}"


def judge(record: Recorded, outcome: Outcome, minor: int, *, listed: bool) -> tuple[str, bool]:
    """What is wrong, "" for nothing; and whether the answer is the recorded one.
    `listed`: the lists of differences hold.
    """
    if minor < NEWER and record.command in OLD_CLIENT:
        code, pattern, why = OLD_CLIENT[record.command]
        found = re.search(pattern, "\n".join(outcome.output), re.MULTILINE)
        return ("" if found and bool(outcome.code) == bool(code) else f"expected {pattern!r}: {why}"), False
    if outcome.code is not None and bool(outcome.code) != bool(record.code):
        return f"exit code {outcome.code}, recorded {record.code}", False
    alike = sweep.holds(record.lines, outcome.output)
    if listed and record.command in ANSWERS:
        pattern, why = ANSWERS[record.command]
        if alike:
            return f"answers as recorded now; ANSWERS says: {why}", True
        if not re.search(pattern, "\n".join([*outcome.output, ""]), re.MULTILINE):
            return f"expected {pattern!r}, for {why}", False
    elif not alike:
        return f"recorded {record.lines}", False
    if minor in RECORDS:
        asked = outcome.requests == list(record.requests)
        if listed and record.command in REQUESTS:
            if asked:
                return f"asks as recorded now; REQUESTS says: {REQUESTS[record.command]}", alike
        elif not asked:
            return f"recorded requests {list(record.requests)}", False
    return "", alike
