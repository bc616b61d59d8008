"""The Containerfile's recipe, step by step, in a virtual environment: there is no container engine here.

What it copies, installs and starts is read from the file, so that a change of the file is tested.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tests.e2e.harness import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
FILE = ROOT / "conformance" / "app" / "Containerfile"
OPENER = build_opener(ProxyHandler({}))
ADDRESS = "127.0.0.61"
"""Nobody else on this machine listens there."""


def instructions() -> dict[str, list[str]]:
    """The arguments of each instruction, in order."""
    text = FILE.read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name and not name.startswith("#"):
            found.setdefault(name, []).append(rest.strip())
    return found


@dataclass(frozen=True)
class Built:
    """What the recipe made: an interpreter with what it installs, and the directory it starts in."""

    python: Path
    directory: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True, timeout=60)
    python = directory / "venv" / "bin" / "python"
    for command in instructions()["RUN"]:
        words = shlex.split(command)
        assert words[:2] == ["pip", "install"], "another kind of step: perform it here too"
        subprocess.run([python, "-m", *words, "-q"], check=True, timeout=120)
    work = directory / "app"
    for copy in instructions()["COPY"]:
        *sources, target = shlex.split(copy)
        for source in sources:
            _copy(ROOT / source, work / target)
    return Built(python, work)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


@pytest.fixture
def running(built: Built) -> Iterator[subprocess.Popen[bytes]]:
    """The entry point as the container starts it, with nothing of this repository on its path."""
    (entry,) = instructions()["ENTRYPOINT"]
    words = json.loads(entry)
    assert words[0] == "python"
    environment = {
        "PATH": os.environ["PATH"],
        "NAME": "box",
        "BIND": ADDRESS,
        "TCP_PORT": "8090",
        "UDP_PORT": "8070",
    }
    process = subprocess.Popen([built.python, *words[1:]], cwd=built.directory, env=environment)
    try:
        wait_for("the application", lambda: _ready(process))
        yield process
    finally:
        process.kill()
        process.wait()


def _ready(process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the application ended"
    try:
        return bool(OPENER.open(f"http://{ADDRESS}:9000/ready", timeout=2).status == 200)
    except OSError:
        return False


def order(path: str, **fields: Any) -> Any:
    request = Request(f"http://{ADDRESS}:9000{path}", data=json.dumps(fields).encode())
    return json.load(OPENER.open(request, timeout=10))["results"][0]


def test_it_serves_every_protocol_on_the_ports_it_names(running: subprocess.Popen[bytes]) -> None:
    (ports,) = instructions()["EXPOSE"]
    assert ports.split() == ["8080", "8090", "8070/udp", "9000"]
    for http in ("http/1.1", "http/2", "grpc"):
        answer = order("/call", url=f"http://{ADDRESS}:8080/x", http=http, timeout=5)
        assert (answer["status"], answer["server"]) == (200, "box"), http
    for path, port in (("/tcp", 8090), ("/udp", 8070)):
        heard = order(path, host=ADDRESS, port=port, send=["ping"], timeout=5)
        assert heard["received"] == ["box ping"], path


def test_it_ends_in_order(running: subprocess.Popen[bytes]) -> None:
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=10) == 0


def test_it_needs_nothing_else(built: Built) -> None:
    """No package of ours beside the application, and not root."""
    (user,) = instructions()["USER"]
    assert re.fullmatch(r"[1-9][0-9]*", user)
    copied = {path.relative_to(built.directory).parts[:2] for path in built.directory.rglob("*.py")}
    assert copied == {("conformance", "__init__.py"), ("conformance", "app")}
