"""The page of requirements, the badge, and what they are made from."""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.badge import draw, words
from conformance.case import Case, Level, SpecRef
from conformance.collect import collect
from conformance.command import build
from conformance.coverage import page, rules, state
from conformance.published import Published, PublishedError
from conformance.render import write_yaml
from conformance.report import Outcome, Result, Run
from conformance.requirements import RequirementError, parse, read

ROOT = Path(__file__).parents[2]
LIST = """
documents:
- name: traffic-split
  versions: [v1alpha1, v1alpha4]
  requirements:
  - {section: A, force: must, says: one | two, cases: [good]}
  - {section: B, in: [v1alpha4], force: should, says: three, cases: [good, bad]}
  - {section: C, force: example, says: four, cases: [other]}
  - {section: C, force: must, says: five, cases: [new]}
  - {section: D, force: open, says: six, cases: [], reason: nobody asks}
"""
SEMANTICS = "### S2. Second\ntext\n### S10. Tenth\n### R1. Reading\n"


async def nothing(_: object) -> None:
    return None


def case(name: str, *rule: str) -> Case:
    refs = (SpecRef("traffic-split", "v1alpha4", "A", "x"),)
    return Case(name, "split-weights", Level.CORE, nothing, refs, rule)


CASES = [case("good", "S2"), case("bad", "S10", "S2"), case("other"), case("new")]
OUTCOMES = {"good": Outcome.PASSED, "bad": Outcome.FAILED, "other": Outcome.SKIPPED}


def report(**outcomes: Outcome) -> Published:
    results = [Result(case(name), f"{name}.py", outcome) for name, outcome in outcomes.items()]
    run = Run(tuple(results), len(results), "a-mesh", frozenset(), began="2026-11-21T05:12:02+00:00")
    return Published.read(write_yaml(run), "x")


def test_every_requirement_has_its_cases_with_their_results() -> None:
    lines = page(parse(LIST, CASES), CASES, report(**OUTCOMES), SEMANTICS).splitlines()
    assert "Report: a-mesh, 2026-11-21, verdict fail." in " ".join(lines)
    assert "| Traffic Split | v1alpha1, v1alpha4 | 5 | 1 | 1 | 2 | 1 |" in lines
    assert "| A | all | must | one \\| two | ✔ good |" in lines
    assert "| B | v1alpha4 | should | three | ✔ good<br>✘ bad |" in lines
    assert "| C | all | example | four | – other |" in lines
    assert "| C | all | must | five | ? new |" in lines
    assert "| D | all | left open | six | none |" in lines
    assert "| Traffic Split | six | nobody asks |" in lines
    assert "| S2 | Second | ✔ good<br>✘ bad |" in lines
    assert "| R1 | Reading | none |" in lines


def test_rules_are_in_the_order_of_their_numbers() -> None:
    assert list(rules("### R1. c\n### S10. b\n### S2. a\n")) == ["S2", "S10", "R1"]


def test_a_requirement_passes_only_with_all_its_cases() -> None:
    first, second, third, fourth, fifth = parse(LIST, CASES).documents[0].requirements
    found = [state(requirement, report(**OUTCOMES)) for requirement in (first, second, third, fourth, fifth)]
    assert found == ["passed", "other", "skipped", "other", "untested"]
    mixed = report(good=Outcome.PASSED, bad=Outcome.SKIPPED)
    assert state(second, mixed) == "skipped"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[other]", "[nobody]"), "there is no case nobody"),
        (("[new]", "[good]"), "case new refers to traffic-split and stands at no requirement"),
        (("in: [v1alpha4]", "in: [v1alpha9]"), "no version v1alpha9"),
        ((", reason: nobody asks", ""), "name cases, or the reason"),
        (("cases: [], reason", "cases: [good], reason"), "name cases, or the reason"),
        (("force: must", "force: maybe"), "Input should be"),
    ],
)
def test_a_list_that_does_not_fit_the_cases_is_refused(change: tuple[str, str], message: str) -> None:
    assert change[0] in LIST
    with pytest.raises(RequirementError) as caught:
        parse(LIST.replace(*change, 1), CASES)
    assert message in str(caught.value)


def test_our_list_fits_our_cases() -> None:
    documents = read([entry.case for entry in collect()]).documents
    versions = {document.name: len(document.versions) for document in documents}
    assert versions == {"traffic-split": 4, "traffic-access": 4, "traffic-specs": 4, "traffic-metrics": 1}
    assert sum(len(document.requirements) for document in documents) > 100


@pytest.mark.parametrize(
    ("outcomes", "text", "colour"),
    [
        ({"a": Outcome.PASSED, "b": Outcome.SKIPPED}, "1 cases passed", "#2da44e"),
        ({"a": Outcome.PASSED, "b": Outcome.FAILED, "c": Outcome.ERROR}, "2 of 3 cases failed", "#cf222e"),
        ({"a": Outcome.SKIPPED}, "partial, 0 cases passed", "#9a6700"),
    ],
)
def test_the_badge_says_what_the_report_says(outcomes: dict[str, Outcome], text: str, colour: str) -> None:
    published = report(**outcomes)
    picture = draw(published)
    assert words(published) == text
    assert Xml.fromstring(picture).get("aria-label") == f"a-mesh: SMI v0.6 conformance: {text}"
    assert colour in picture


@pytest.mark.parametrize("text", ["", "a: b", "apiVersion: v1\nkind: Pod", "[", "- a"])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(PublishedError, match=r"^x: "):
        Published.read(text, "x")


def coverage(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    given = [
        "coverage", "--report", str(ROOT / "docs/reports/smi-mesh-0.1.0-localmesh.yaml"),
        "--semantics", str(ROOT / "docs/semantics.md"),
        "--page", str(tmp_path / "page.md"), "--picture", str(tmp_path / "badge.svg"),
        "--moving", str(tmp_path / "moving.md"), *arguments,
    ]  # fmt: skip
    result = CliRunner().invoke(build(None), given)
    return result.exit_code, result.output


def test_a_page_that_is_not_current_is_found(tmp_path: Path) -> None:
    assert coverage(tmp_path, "--check")[0] == 1
    assert coverage(tmp_path)[0] == 0
    assert coverage(tmp_path, "--check")[0] == 0
    (tmp_path / "badge.svg").write_text("old")
    code, text = coverage(tmp_path, "--check")
    assert code == 1
    assert "badge.svg is not current: `make coverage` writes it" in text
