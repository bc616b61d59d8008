"""Whole suites against a real embedded cluster: the official tests, the format, failures, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Cluster, start_cluster, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
SUITES = Path(__file__).parent / "suites"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    state = tmp_path_factory.mktemp("kuttl")
    running = start_cluster(state)
    yield running
    subprocess.run([*running.command, "local", "down", "--state-dir", str(state)], check=True, timeout=60)


def command(cluster: Cluster, suite: str, *arguments: str | Path) -> list[str]:
    given = ["--kubeconfig", str(cluster.kubeconfig), *map(str, arguments)]
    return [sys.executable, "-m", "cli", "conformance", "kuttl", str(SUITES / suite), *given]


def environment(cluster: Cluster, pidfile: Path) -> dict[str, str]:
    return {**os.environ, "KUTTL_PIDFILE": str(pidfile), "KUTTL_OTHER_KUBECONFIG": str(cluster.kubeconfig)}


def run(cluster: Cluster, tmp_path: Path, suite: str, *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, the last line, and everything that was told."""
    done = subprocess.run(
        command(cluster, suite, *arguments),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env=environment(cluster, tmp_path / "pid"),
    )
    return done.returncode, done.stdout.strip(), done.stderr


def left(cluster: Cluster) -> list[str]:
    """What a run may have forgotten in the cluster."""
    found = [
        *cluster.get("namespaces")["items"],
        *cluster.get("clusterroles")["items"],
        *cluster.get("configmaps", "-n", "default")["items"],
        *cluster.get("customresourcedefinitions")["items"],
    ]
    names = [item["metadata"]["name"] for item in found]
    return [name for name in names if "kuttl" in name]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_official_smi_tests_pass(cluster: Cluster, tmp_path: Path) -> None:
    code, last, told = run(
        cluster,
        tmp_path,
        "smi",
        "--steps",
        "conformance.kuttl.smi",
        "--report",
        "json",
        "--artifacts-dir",
        tmp_path,
    )
    assert (code, last) == (0, "3 passed, 0 failed"), told
    report = json.loads((tmp_path / "kuttl-report.json").read_text())
    names = [test["name"] for test in report["testsuite"][0]["testsuite"]]
    assert names == ["traffic-access", "traffic-spec", "traffic-split"]
    assert (report["tests"], report["failures"]) == (24, 0)
    assert left(cluster) == []


def test_everything_of_the_format_passes(cluster: Cluster, tmp_path: Path) -> None:
    code, last, told = run(
        cluster, tmp_path, "format", "--mesh", "none", "--template-var", "who=me",
        "--report", "junit", "--report-name", "format", "--artifacts-dir", tmp_path,
    )  # fmt: skip
    assert (code, last) == (0, "7 passed, 0 failed"), told
    assert "startKIND is left out" in told
    assert "templates/01-only-elsewhere.yaml: its TestFile does not select this run" in told
    root = Xml.parse(tmp_path / "format.xml").getroot()
    assert root.get("failures") == "0"
    assert left(cluster) == []
    assert not alive(int((tmp_path / "pid").read_text())), "the background command still runs"


def test_a_selected_file_is_applied(cluster: Cluster, tmp_path: Path) -> None:
    """`templates` forbids what is applied only to runs with this label."""
    code, last, told = run(
        cluster, tmp_path, "format", "--mesh", "none", "--template-var", "who=me",
        "--test", "templates", "--test-run-labels", "where=elsewhere", "--timeout", "1",
    )  # fmt: skip
    assert (code, last) == (1, "0 passed, 1 failed"), told
    assert "/elsewhere is as the errors file says it must not be" in told


FAILURES = {
    "absent": "/facts: there is none",
    "assert-command": "command 'echo looked; exit 4' ended with exit code 4",
    "buggy-function": "functions:buggy: KeyError: 'oops'",
    "command": "command 'echo about to fail; exit 3' ended with exit code 3",
    "differs": "/facts: .data.b: expected '3', found '2'",
    "elements": "/web: .spec.ports: expected 1 elements, found 2",
    "endless-function": "functions:endless: not finished within 1 s",
    "function": "functions:judge: saw three in function/judge",
    "late-command": "command 'sleep 1000' took longer than 1 s",
    "missing-command": "command there-is-no-such-program: No such file or directory",
    "nameless": "/(any): there is none with nobody=has",
    "present": "/facts is as the errors file says it must not be",
    "present-nameless": "is as the errors file says it must not be",
    "refused": "Service web: not applied: ",
    "unknown": "the cluster does not serve Nothing in nobody.example.io/v1",
    "unknown-errors": "the cluster does not serve Nothing in nobody.example.io/v1",
}


def test_what_must_fail_fails_and_says_why(cluster: Cluster, tmp_path: Path) -> None:
    code, last, told = run(
        cluster, tmp_path, "failing", "--mesh", "none", "--steps", "tests.conformance.kuttl.functions",
        "--report", "json", "--report-granularity", "test", "--artifacts-dir", tmp_path,
    )  # fmt: skip
    assert (code, last) == (1, f"0 passed, {len(FAILURES)} failed"), told
    report = json.loads((tmp_path / "kuttl-report.json").read_text())
    cases = report["testsuite"][0]["testcase"]
    texts = {case["name"]: case.get("failure", {}).get("text", "") for case in cases}
    assert {name for name, text in texts.items() if FAILURES[name] in text} == set(FAILURES), texts
    assert "-  b: '3'\n+  b: '2'" in told, "the difference is not shown"
    assert "never" not in told, "a step after a failed one ran"
    assert "assert-command: | collected in kuttl-test-" in told
    assert left(cluster) == []


def test_a_mesh_that_allows_too_much_fails_the_official_tests(cluster: Cluster, tmp_path: Path) -> None:
    """A cluster without a mesh lets everything pass: `blocked` must see that."""
    code, last, told = run(
        cluster, tmp_path, "smi", "--steps", "conformance.kuttl.smi", "--mesh", "none",
        "--test", "traffic-access", "--timeout", "8",
    )  # fmt: skip
    assert (code, last) == (1, "0 passed, 1 failed"), told
    assert "step 3-trafficDefault\nconformance.kuttl.smi:blocked: not finished within 8 s" in told
    assert "waiting: app-a → app-b: status 200, it must be blocked" in told


def test_one_namespace_can_serve_all_tests(cluster: Cluster, tmp_path: Path) -> None:
    """It is made when it is not there, and removed; one that was there stays, without what was in it."""
    arguments = (
        "--mesh",
        "none",
        "--test",
        "deletion",
        "--namespace",
        "kuttl-shared",
        "--template-var",
        "who=me",
    )
    assert run(cluster, tmp_path, "format", *arguments)[0] == 0
    assert left(cluster) == []
    cluster.kubectl("create", "namespace", "kuttl-shared")
    assert run(cluster, tmp_path, "format", *arguments)[0] == 0
    assert left(cluster) == ["kuttl-shared"]
    arguments = (*arguments[:3], "objects", *arguments[4:])
    assert run(cluster, tmp_path, "format", *arguments)[0] == 0
    assert [
        item["metadata"]["name"] for item in cluster.get("configmaps", "-n", "kuttl-shared")["items"]
    ] == ["kube-root-ca.crt"]
    cluster.kubectl("delete", "namespace", "kuttl-shared")


def test_what_is_asked_to_stay_stays(cluster: Cluster, tmp_path: Path) -> None:
    arguments = ("--mesh", "none", "--test", "definitions", "--template-var", "who=me", "--skip-delete")
    assert run(cluster, tmp_path, "format", *arguments)[0] == 0
    names = left(cluster)
    assert "kuttl-format-base" in names
    assert "things.kuttl.example.io" in names
    spaces = [name for name in names if name.startswith("kuttl-test-")]
    assert len(spaces) == 1
    cluster.kubectl("delete", "crd", "things.kuttl.example.io")
    cluster.kubectl("delete", "configmap", "-n", "default", "kuttl-format-base")
    cluster.kubectl("delete", "namespace", *spaces)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(cluster: Cluster, tmp_path: Path, number: signal.Signals) -> None:
    pidfile = tmp_path / "pid"
    process = subprocess.Popen(
        command(cluster, "endless", "--mesh", "none"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(cluster, pidfile),
    )
    wait_for("the endless command", lambda: pidfile.exists() and pidfile.read_text().strip())
    assert "kuttl-endless-role" in left(cluster)
    process.send_signal(number)
    output, told = process.communicate(timeout=60)
    assert (process.returncode, output.strip()) == (3, "0 passed, 0 failed, 1 not run"), told
    assert not alive(int(pidfile.read_text()))
    assert left(cluster) == []
