"""KUTTL's format: names of files, steps made of them, what is filled in, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.kuttl import expand
from conformance.kuttl.layout import Fetch, File, Step, Test, Values, assemble, documents
from conformance.kuttl.model import FormatError, TestAssert, TestStep, TestSuite, is_settings
from conformance.kuttl.names import FileName, Role, parse

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n"
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: facts, namespace: <NAMESPACE>}\n"
STEP = "apiVersion: kuttl.dev/v1beta1\nkind: TestStep\n"
ASSERT = "apiVersion: kuttl.dev/v1beta1\nkind: TestAssert\n"


def nothing(path: str) -> Iterable[File]:
    raise FormatError(f"{path} is not there")


def assembled(files: dict[str, str], fetch: Fetch = nothing, **values: Any) -> Test:
    listed = [File(PurePath(name), text) for name, text in files.items()]
    return assemble("a-test", listed, fetch, Values("kuttl-test-1", **values))


def only(test: Test) -> Step:
    assert len(test.steps) == 1
    return test.steps[0]


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("00-assert.yaml", FileName(0, Role.ASSERT, "", False)),
        ("1-errors.yaml", FileName(1, Role.ERRORS, "", False)),
        ("01234-foo.yaml", FileName(1234, Role.APPLY, "foo", False)),
        ("03-trafficDefault.yaml", FileName(3, Role.APPLY, "trafficDefault", False)),
        ("00-two-words.yaml", FileName(0, Role.APPLY, "two-words", False)),
        ("00-assert-more.yaml", FileName(0, Role.ASSERT, "", False)),
        ("00-foo", FileName(0, Role.APPLY, "foo", False)),
        ("00-foo.gotmpl.yaml", FileName(0, Role.APPLY, "foo", True)),
        ("assert.yaml", FileName(None, Role.ASSERT, "", False)),
        ("pod.yaml", FileName(None, Role.APPLY, "pod", False)),
        ("00-foo.yml", None),
        ("00-foo.json", None),
        ("Tests.md", None),
    ],
)
def test_names_say_what_a_file_is(name: str, parsed: FileName | None) -> None:
    assert parse(name) == parsed


@given(st.integers(0, 99999), st.from_regex(r"[a-z]{1,6}(-[a-z]{1,4}){0,2}", fullmatch=True))
def test_every_numbered_name_is_a_step(index: int, name: str) -> None:
    found = parse(f"{index:02}-{name}.yaml")
    assert found is not None
    assert found.index == index
    first = name.partition("-")[0]
    assert found.step == ("" if first in ("assert", "errors") else name)


def test_files_with_one_number_are_one_step() -> None:
    test = assembled(
        {
            "01-assert.yaml": POD,
            "00-b.yaml": POD,
            "00-a.yaml": f"{POD}---\n{MAP}",
            "00-assert.yaml": f"{ASSERT}timeout: 3\n---\n{POD}",
            "00-errors.yaml": MAP,
            "README.md": "words",
        }
    )
    first, second = test.steps
    assert (first.id, second.id) == ("0-a", "1-")
    assert [obj["kind"] for obj in first.apply] == ["Pod", "ConfigMap", "Pod"]
    assert [obj["kind"] for obj in first.asserts] == ["Pod"]
    assert [obj["kind"] for obj in first.errors] == ["ConfigMap"]
    assert first.assertion.timeout == 3
    assert not second.apply
    assert test.left_out == ("a-test/README.md: its name does not begin with a number and a dash",)


def test_a_directory_is_a_step_too() -> None:
    step = only(
        assembled({"02-setup/pod.yaml": POD, "02-setup/assert.yaml": POD, "02-setup/errors.yaml": MAP})
    )
    assert step.id == "2-setup"
    assert [len(part) for part in (step.apply, step.asserts, step.errors)] == [1, 1, 1]


def test_settings_name_and_place_the_step() -> None:
    test = assembled({"00-a.yaml": f"{STEP}index: 7\nmetadata: {{name: late}}\n---\n{POD}", "01-b.yaml": POD})
    assert [step.id for step in test.steps] == ["1-b", "7-late"]


def test_files_that_a_step_names_are_read() -> None:
    asked = []

    def fetch(path: str) -> Iterable[File]:
        asked.append(path)
        return [File(PurePath(path), MAP)]

    text = f"{STEP}apply: [$WHERE/one.yaml]\nassert: [two.yaml]\nerror: [three.yaml]\n"
    step = only(assembled({"00-a.yaml": text}, fetch, environment={"WHERE": "more"}))
    assert asked == ["more/one.yaml", "two.yaml", "three.yaml"]
    assert step.apply[0]["metadata"]["namespace"] == "kuttl-test-1"
    assert (len(step.asserts), len(step.errors)) == (1, 1)


def test_a_test_file_selects_runs() -> None:
    selector = (
        "apiVersion: kuttl.dev/v1beta1\nkind: TestFile\ntestRunSelector:\n  matchLabels: {where: cloud}\n"
    )
    files = {"00-a.yaml": POD, "00-b.yaml": f"{selector}---\n{MAP}"}
    assert len(only(assembled(files)).apply) == 1
    assert len(only(assembled(files, labels={"where": "cloud"})).apply) == 2


@pytest.mark.parametrize(
    ("operator", "value", "selected"),
    [
        ("In", "a", True),
        ("In", "c", False),
        ("NotIn", "c", True),
        ("Exists", "c", True),
        ("DoesNotExist", "c", False),
    ],
)
def test_selectors_have_expressions(operator: str, value: str, selected: bool) -> None:
    values = "" if "xist" in operator else ", values: [a, b]"
    selector = (
        "apiVersion: kuttl.dev/v1beta1\nkind: TestFile\n"
        f"testRunSelector:\n  matchExpressions: [{{key: k, operator: {operator}{values}}}]\n"
    )
    test = assembled({"00-a.yaml": POD, "01-b.yaml": f"{selector}---\n{POD}"}, labels={"k": value})
    applied = sum(len(step.apply) for step in test.steps)
    assert applied == 1 + selected


def test_the_older_names_of_the_format_are_known() -> None:
    """The official SMI tests say kudo.dev/v1alpha1."""
    step = only(assembled({"03-trafficBlocked.yaml": "apiVersion: kudo.dev/v1alpha1\nkind: TestStep"}))
    assert step.id == "3-trafficBlocked"
    assert step.idle
    assert not is_settings({"apiVersion": "example.io/v1", "kind": "TestStep"})


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        (STEP, True),
        (POD, False),
        (f"{STEP}delete: [{{apiVersion: v1, kind: Pod}}]", False),
        (f"{STEP}commands: [{{command: 'true'}}]", False),
    ],
)
def test_a_step_that_does_nothing_is_seen(text: str, idle: bool) -> None:
    assert only(assembled({"00-a.yaml": text})).idle is idle


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no file begins with a number"),
        ({"notes.yaml": POD}, "no file begins with a number"),
        ({"00-a.yaml": "a: [b"}, "a-test/00-a.yaml: not YAML"),
        ({"00-a.yaml": "- a"}, "document 1 is not an object"),
        ({"00-a.yaml": "kind: Pod"}, "document 1 has no apiVersion"),
        ({"00-a.yaml": "apiVersion: v1\nkind: Pod"}, "an object to apply needs metadata.name"),
        ({"00-a/b.c.yaml": POD}, "the name does not follow"),
        ({"00-a.yaml": ASSERT}, "a TestAssert does not belong into a file of this name"),
        ({"00-assert.yaml": STEP}, "a TestStep does not belong into a file of this name"),
        ({"00-a.yaml": f"{STEP}---\n{STEP}"}, "step 0 has more than one TestStep"),
        ({"00-assert.yaml": f"{ASSERT}---\n{ASSERT}"}, "step 0 has more than one TestAssert"),
        ({"00-a.yaml": f"{STEP}timeuot: 3"}, "TestStep: timeuot: Extra inputs are not permitted"),
        ({"00-a.yaml": f"{STEP}apply: [x.yaml]"}, "x.yaml is not there"),
        (
            {"00-a.yaml": f"{STEP}apply: ['https://example.org/x.yaml']"},
            "nothing is fetched from the network",
        ),
        ({"00-a.yaml": f"{STEP}commands: [{{}}]"}, "set either `command` or `script`"),
        ({"00-a.yaml": f"{STEP}commands: [{{command: a, script: b}}]"}, "set either `command` or `script`"),
        ({"00-a.yaml": f"{STEP}commands: [{{script: b, namespaced: true}}]"}, "use $NAMESPACE"),
        ({"00-assert.yaml": f"{ASSERT}commands: [{{command: a, background: true}}]"}, "neither"),
        ({"00-assert.yaml": f"{ASSERT}collectors: [{{}}]"}, "needs `pod` or `selector`"),
        ({"00-assert.yaml": f"{ASSERT}collectors: [{{command: a, pod: b}}]"}, "nothing else"),
        (
            {"00-assert.yaml": f"{ASSERT}assertAll: [{{celExpr: 'true'}}]"},
            "CEL expressions are not supported",
        ),
        ({"00-a.gotmpl.yaml": "{{ if .X }}"}, "only .Namespace"),
        ({"00-a.gotmpl.yaml": "{{ .Vars.x }}"}, "has no value: --template-var x=…"),
    ],
)
def test_what_is_not_in_order_is_refused(files: dict[str, str], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        assembled(files)
    assert message in str(caught.value)


def test_dates_are_text_and_lists_are_taken_apart() -> None:
    found = documents(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: X, when: 2020-01-01}\n", "x"
    )
    assert found == [{"apiVersion": "v1", "kind": "X", "when": "2020-01-01"}]


def test_templates_are_filled_in() -> None:
    names = "{name: '{{ .Vars.name }}-{{- .Env.WHO }}', namespace: '{{.Namespace}}'}"
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {names}"
    step = only(assembled({"00-a.gotmpl.yaml": text}, environment={"WHO": "me"}, variables={"name": "web"}))
    assert step.apply[0]["metadata"] == {"name": "web-me", "namespace": "kuttl-test-1"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("kubectl -n $NAMESPACE get", "kubectl -n ns get"),
        ("${NAMESPACE}x", "nsx"),
        ("$$NAMESPACE", "$NAMESPACE"),
        ("$NOBODY.", "."),
        ("5 $ or $(cmd)", "5 $ or $(cmd)"),
    ],
)
def test_dollars_are_filled_in(text: str, filled: str) -> None:
    assert expand.dollars(text, {"NAMESPACE": "ns"}) == filled


def test_defaults_are_those_of_the_documentation() -> None:
    suite = TestSuite()
    assert (suite.ignoreFiles, suite.reportGranularity, suite.reportName) == (
        ("README*",),
        "step",
        "kuttl-report",
    )
    assert TestStep.model_validate({}).index is None
    assert TestAssert().timeout == 0


def test_starting_clusters_is_left_out_aloud() -> None:
    suite = TestSuite.read(
        {"startKIND": True, "kindContainers": ["a"], "timeout": 5, "kind": "TestSuite"}, "x"
    )
    assert suite.left_out == ("startKIND", "kindContainers")
