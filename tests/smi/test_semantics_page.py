"""docs/semantics.md: every rule once, every reference to code and tests real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = [*(f"S{n}" for n in range(1, 34)), *(f"R{n}" for n in range(1, 17))]
# `str.split` at headings: [text, number, text, number, text, …]
SECTIONS = re.split(
    r"^### ([SR]\d+)\. ", (ROOT / "docs/semantics.md").read_text(encoding="utf-8"), flags=re.M
)[1:]
BY_RULE = dict(zip(SECTIONS[::2], SECTIONS[1::2], strict=True))


def test_every_rule_is_there_once() -> None:
    assert sorted(SECTIONS[::2]) == sorted(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_names_spec_code_and_tests_that_exist(rule: str) -> None:
    lines = {line[2:].partition(":")[0]: line for line in BY_RULE[rule].splitlines() if line.startswith("- ")}
    assert set(lines) == {"Spec", "Code", "Tests"}
    for path in re.findall(r"`([^`]+)`", lines["Code"] + lines["Tests"]):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("rule", RULES)
def test_smi_code_that_carries_a_rule_says_so(rule: str) -> None:
    code = next(line for line in BY_RULE[rule].splitlines() if line.startswith("- Code:"))
    paths = [path for path in re.findall(r"`(smi/[^`]+)`", code) if path != "smi/findings.py"]
    texts = [(ROOT / path).read_text(encoding="utf-8") for path in paths]
    assert not texts or any(mentions(rule, text) for text in texts)


def mentions(rule: str, text: str) -> bool:
    """Whether a text cites a rule, by itself or within a range such as S20-S28."""
    number = int(rule[1:])
    if re.search(rf"\b{rule}\b", text):
        return True
    ranges = re.findall(rf"\b{rule[0]}(\d+)-{rule[0]}(\d+)\b", text)
    return any(int(first) <= number <= int(last) for first, last in ranges)
