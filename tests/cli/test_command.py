"""The command line as a person meets it: help, versions, mistakes, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.cluster import at_this_machine
from cli.errors import Failed
from cli.kube import KubeError
from cli.main import main
from cli.run import run
from localmesh.images import builtin_images


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["demo"],
        ["local"],
        ["local", "up"],
        ["local", "down"],
        ["local", "status"],
        ["local", "logs"],
        ["version"],
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_manual_names_every_option() -> None:
    manual = Path("docs/cli.md").read_text(encoding="utf-8")
    context = click.Context(main)
    top = {name: main.get_command(context, name) for name in main.list_commands(context)}
    local = top.pop("local")
    assert isinstance(local, click.Group)
    for name, command in {
        **top,
        **{f"local {name}": command for name, command in local.commands.items()},
    }.items():
        assert command is not None
        assert f"## smi-mesh {name}" in manual
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert any(option in manual for option in parameter.opts), (name, parameter.opts)


def test_version_in_both_forms() -> None:
    table = CliRunner().invoke(main, ["version"])
    document = CliRunner().invoke(main, ["version", "--output", "json"])
    assert table.exit_code == document.exit_code == 0
    assert json.loads(document.stdout)["smi-mesh"] in table.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["local", "up", "--mode", "vm"],
        ["version", "-o", "xml"],
        ["local", "up", "--leaf-seconds", "1"],
        ["local", "up", "--tracing", "collector:4318"],
        ["local", "up", "--trace-sampling", "1"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("command", ["status", "logs"])
def test_no_cluster_is_said_without_a_traceback(tmp_path: Path, command: str) -> None:
    result = CliRunner().invoke(main, ["local", command, "--state-dir", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "smi-mesh local up" in result.stderr
    assert "Traceback" not in result.output


def test_down_without_a_cluster_is_no_failure(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["local", "down", "--state-dir", str(tmp_path / "none"), "-o", "json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["existed"] is False


async def _raise(error: BaseException) -> None:
    raise error


async def _raise_in_group(error: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_raise(error))


@pytest.mark.parametrize("work", [_raise, _raise_in_group])
def test_expected_failures_become_messages(work: object) -> None:
    assert callable(work)
    for error in (KubeError(403, "Forbidden", "no"), Failed("no"), TimeoutError("no")):
        with pytest.raises(Failed, match="no"):
            run(work(error))


def test_bugs_stay_visible() -> None:
    with pytest.raises(ZeroDivisionError):
        run(_raise(ZeroDivisionError()))
    with pytest.raises(ExceptionGroup):
        run(_raise_in_group(ZeroDivisionError()))


_WAITS = """
import asyncio, signal
import click
from cli.run import run
from localmesh.images import builtin_images

async def work():
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)

# Who starts the tests in the background of a shell has them ignore it, and so their children.
signal.signal(signal.SIGINT, signal.default_int_handler)

@click.command()
def main():
    run(work())

main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_cleans_up(number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert out == b"cleaned up\n"
    assert process.returncode == code
    assert b"Traceback" not in err


def test_the_manual_has_the_image_table() -> None:
    manual = Path("docs/localmesh.md").read_text(encoding="utf-8")
    for image in builtin_images():
        assert f"`{image.name}`" in manual


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:4318", "http://198.51.100.1:4318"),
        ("https://127.0.0.1/v1/traces", "https://198.51.100.1/v1/traces"),
        ("http://collector.o11y:4318", "http://collector.o11y:4318"),
        ("", ""),
    ],
)
def test_this_machine_is_where_the_api_server_is_for_pods(url: str, expected: str) -> None:
    assert at_this_machine(url, "198.51.100.1") == expected
