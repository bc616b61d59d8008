"""Rules that hold for every test: a skip in CI is a failure unless it is listed with its reason."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples each time: what CI says depends on the change alone. `deep` is what looks for new ones.
settings.register_profile(
    "fast", max_examples=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

_KNOWN_SKIPS = Path(__file__).with_name("known_skips.txt")


_LONGEST = (
    "cli/test_e2e_demo.py",
    "conformance/mutants/test_e2e_mutants.py",
    "conformance/test_e2e_suite.py",
    "e2e/test_continuity.py",
    "conformance/kuttl/test_e2e_kuttl.py",
)
"""Files of the end-to-end tests that take more than half a minute, the longest first."""


def _known_skips() -> tuple[str, ...]:
    lines = _KNOWN_SKIPS.read_text(encoding="utf-8").splitlines()
    return tuple(line.partition("\t")[0] for line in lines if line.strip() and not line.startswith("#"))


class _SkipGuard:
    """Turns an unlisted skip into a failed session; installed in CI only."""

    def __init__(self) -> None:
        self.unlisted: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        listed = report.nodeid.startswith(_known_skips())
        if report.skipped and not hasattr(report, "wasxfail") and not listed:
            self.unlisted.append(f"{report.nodeid}: {report.longrepr}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unlisted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.unlisted:
            terminalreporter.write_line(f"unlisted skip (see tests/known_skips.txt): {line}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_SkipGuard())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first: one that began last would leave the other core idle (`make e2e`)."""
    first = {Path(__file__).parent / name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """While tests are collected next to nothing becomes garbage: the collector would look in vain."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """What collection made stays to the end: the garbage collector need not look through it each time, nor
    through what is new after every 700 objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
