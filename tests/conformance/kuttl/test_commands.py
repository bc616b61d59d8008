"""Commands of a suite as real processes, functions by name, and what the command line refuses."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from conformance.command import build
from conformance.kuttl import load
from conformance.kuttl.commands import MAX_LINES, CommandError, Surroundings, arguments, run
from conformance.kuttl.layout import Values
from conformance.kuttl.model import Command, FormatError, TestSuite
from conformance.kuttl.steps import Context, bind

SUITES = Path(__file__).parent / "suites"


@pytest.fixture
def where(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path, "kuttl-test-1", tmp_path / "kubeconfig")


async def output(where: Surroundings, seconds: float | None = 10, **fields: Any) -> list[str]:
    lines: list[str] = []
    await run(Command(**fields), where, seconds, lines.append)
    return [line[2:] for line in lines if line.startswith("| ")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": "kubectl get 'a b' $NAMESPACE"}, ["kubectl", "get", "a b", "ns"]),
        ({"command": "kubectl get", "namespaced": True}, ["kubectl", "get", "--namespace", "ns"]),
        ({"command": "kubectl get -n x", "namespaced": True}, ["kubectl", "get", "-n", "x"]),
        ({"command": "kubectl get --namespace=x", "namespaced": True}, ["kubectl", "get", "--namespace=x"]),
        ({"script": "echo $NAMESPACE | cat"}, ["sh", "-c", "echo $NAMESPACE | cat"]),
    ],
)
def test_words(fields: dict[str, Any], words: list[str]) -> None:
    assert arguments(Command(**fields), "ns", {"NAMESPACE": "ns"}) == words


async def test_a_command_finds_itself_in_the_tests_directory(where: Surroundings) -> None:
    script = "pwd; echo $NAMESPACE; echo $KUBECONFIG; echo $PATH; echo oops >&2"
    lines = await output(where, script=script)
    assert lines[:3] == [str(where.directory), "kuttl-test-1", str(where.kubeconfig)]
    assert lines[3].startswith(f"{Path.cwd()}/bin:")
    assert lines[4] == "oops"


async def test_output_can_be_kept_out_of_the_log(where: Surroundings) -> None:
    assert await output(where, script="echo secret", skipLogOutput=True) == []


async def test_endless_output_is_cut(where: Surroundings) -> None:
    lines = await output(where, script="seq 100000; printf %100000s x | tr ' ' y")
    assert len(lines) == MAX_LINES + 1
    assert lines[-1].endswith("more lines")


async def test_failures_count_unless_they_are_ignored(where: Surroundings) -> None:
    with pytest.raises(CommandError, match="'exit 3' ended with exit code 3"):
        await output(where, script="exit 3")
    await output(where, script="exit 3", ignoreFailure=True)
    with pytest.raises(CommandError, match="No such file"):
        await output(where, command="there-is-no-such-program", ignoreFailure=True)
    with pytest.raises(CommandError, match="No closing quotation"):
        await output(where, command="echo 'a")
    with pytest.raises(CommandError, match="empty once its variables are filled in"):
        await output(where, command="$NOBODY")


@pytest.mark.parametrize("own", [True, False])
async def test_a_command_ends_with_everything_it_started(where: Surroundings, own: bool) -> None:
    limits: dict[str, Any] = {"timeout": 1} if own else {}
    script = "sleep 1000 & echo $! > child; wait"
    with pytest.raises(CommandError, match="took longer than") as caught:
        await output(where, 1000 if own else 0.2, script=script, **limits)
    assert caught.value.late
    await gone(int((where.directory / "child").read_text()))


async def test_a_cancelled_command_ends_too(where: Surroundings) -> None:
    child = where.directory / "child"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(output(where, None, script="echo $$ > child; exec sleep 1000", timeout=-1))
        async with asyncio.timeout(10):
            while not (child.exists() and child.read_text().strip()):  # noqa: ASYNC110 - another process's file
                await asyncio.sleep(0.01)
        task.cancel()
    await gone(int(child.read_text()))


async def gone(pid: int) -> None:
    """Wait until a process is no more (a zombie counts as gone: it waits for a parent that is not ours)."""
    async with asyncio.timeout(10):
        while alive(pid):  # noqa: ASYNC110 - another process's end
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def passes(_: Context) -> None:
    return None


TABLE = {"one": {"two": passes}}
HERE = __name__


def table() -> dict[str, Any]:
    return TABLE


def not_async(_: Context) -> None:
    return None


@pytest.mark.parametrize("choice", [f"{HERE}:TABLE", f"{HERE}:table", f"one/two={HERE}:passes"])
def test_functions_are_bound_by_name(choice: str) -> None:
    bindings = bind([choice])
    assert bindings.find("one", "two") is passes
    assert bindings.find("one", "three") is None
    assert bindings.unused({"one": ["three"]}) == ["one/two"]
    assert bindings.unused({"another": ["three"]}) == []


def test_installed_packages_offer_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with an entry point is enough; what is asked for by name goes before it."""
    about = tmp_path / "mesh_steps-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mesh-steps\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[smi_mesh.conformance.steps]\nours = mesh_steps:STEPS\n")
    module = "async def step(context): ...\nSTEPS = {'one': {'two': step, 'three': step}}\n"
    (tmp_path / "mesh_steps.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    bindings = bind([f"one/two={HERE}:passes"])
    assert bindings.find("one", "two") is passes
    offered = bindings.find("one", "three")
    assert offered is not None
    assert offered.__module__ == "mesh_steps"
    assert bind([], installed=False).find("one", "three") is None


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("nobody.has.this", "No module named 'nobody'"),
        (HERE, "has no attribute 'STEPS'"),
        (f"{HERE}:HERE", "expected a mapping test → step → function"),
        (f"one/two={HERE}:not_async", "is not an async function"),
        (f"one={HERE}:passes", "expected <test>/<step>=<module>:<function>"),
    ],
)
def test_what_cannot_be_bound_is_refused(choice: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        bind([choice])
    assert message in str(caught.value)


def test_the_official_names_have_functions() -> None:
    bindings = bind(["conformance.kuttl.smi"])
    suite, base = load.read_suite(SUITES / "smi", None)
    for place in load.find_tests(suite, base, SUITES / "smi"):
        test = load.read_test(place, suite.ignoreFiles, Values("ns"))
        idle = [step.name for step in test.steps if step.idle]
        assert idle
        assert all(bindings.find(test.name, name) for name in idle)


def invoke(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(build(None), ["kuttl", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--kubeconfig is needed"),
        (("--test", "nope"), "no test is called nope"),
        (("--template-var", "who"), "expected name=value"),
        (("--steps", f"objects/nope={HERE}:passes"), "no step has this name: objects/nope"),
    ],
)
def test_nothing_begins_when_the_order_is_wrong(arguments: tuple[str, ...], message: str) -> None:
    variables = () if "--template-var" in arguments else ("--template-var", "who=me")
    code, text = invoke(SUITES / "format", *variables, *arguments)
    assert (code, message in " ".join(text.split())) == (2, True), text


def test_a_step_that_would_prove_nothing_is_refused() -> None:
    code, text = invoke(SUITES / "smi")
    assert code == 2
    assert "traffic-access: step 3-trafficDefault does and asserts nothing" in " ".join(text.split())


def test_a_suite_without_tests_is_refused(tmp_path: Path) -> None:
    assert invoke(tmp_path)[0] == 2
    (tmp_path / "kuttl-test.yaml").write_text("apiVersion: v1\nkind: Pod\n")
    assert "expected one TestSuite" in invoke(tmp_path)[1]
    (tmp_path / "kuttl-test.yaml").write_text(
        "apiVersion: kuttl.dev/v1beta1\nkind: TestSuite\ntestDirs: [x]\n"
    )
    assert "is not a directory" in invoke(tmp_path)[1]


def test_test_directories_are_relative_to_the_suite(tmp_path: Path) -> None:
    (tmp_path / "more" / "a-test").mkdir(parents=True)
    (tmp_path / "more" / ".hidden").mkdir()
    suite = TestSuite(testDirs=("more",))
    assert [place.name for place in load.find_tests(suite, tmp_path, tmp_path)] == ["a-test"]
    with pytest.raises(FormatError, match="not fetched from the network"):
        load.find_tests(TestSuite(testDirs=("https://example.org/x.tgz",)), tmp_path, tmp_path)
