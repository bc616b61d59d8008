"""Finding, selecting and parsing cases; what profiles claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.case import Case, Level
from conformance.collect import CollectError, collect, parse_steps, select
from conformance.features import FEATURES, Group
from conformance.profiles import KNOWN, Profile, ProfileError, known, load

ENTRIES = collect()


def test_there_are_enough_cases_and_each_group_has_some() -> None:
    assert len(ENTRIES) >= 110
    assert {entry.case.group for entry in ENTRIES} == set(Group)


def test_selecting_by_group_feature_and_name() -> None:
    assert {e.case.group for e in select(ENTRIES, ["split"], [], [])} == {Group.SPLIT}
    assert [e.id for e in select(ENTRIES, [], [], ["weights-half"])] == ["split/weights-half"]
    assert select(ENTRIES, ["access"], [], ["split/weights-half"]) == ()
    assert select(ENTRIES, [], [], []) == ENTRIES
    with pytest.raises(CollectError, match="no case has the feature nope"):
        select(ENTRIES, [], ["nope"], [])


def test_steps_and_placeholders() -> None:
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '${name}'}\n---\nstep: two\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {re: '^yes$', later: '${later}'}\n"
    )
    steps = parse_steps(text, {"name": "a"}, "here")
    assert steps[""][0]["metadata"]["name"] == "a"
    assert steps["two"][0]["data"] == {"re": "^yes$", "later": "${later}"}
    with pytest.raises(CollectError, match="here: a document without"):
        parse_steps("kind: X\n", {}, "here")


def test_a_case_must_have_a_known_feature_and_a_source() -> None:
    async def run(_: object) -> None:
        return None

    with pytest.raises(ValueError, match="unknown feature"):
        Case("x", "nope", Level.CORE, run, rules=("S1",))
    with pytest.raises(ValueError, match="neither specification nor rule"):
        Case("x", "split-weights", Level.CORE, run)


@pytest.mark.parametrize("name", KNOWN)
def test_known_profiles_load(name: str) -> None:
    assert known(name).claimed <= set(FEATURES)


def test_a_profile_refuses_what_it_does_not_claim() -> None:
    half = next(entry.case for entry in ENTRIES if entry.case.name == "weights-half")
    profile = Profile(name="x", features=("all", "-split-tcp"))
    assert profile.claimed == frozenset(FEATURES) - {"split-tcp"}
    assert profile.refuses(half) is None
    assert profile.refuses(replace(half, needs=("split-tcp",))) == "x does not claim split-tcp"
    assert "does not claim our rules" in str(profile.refuses(replace(half, level=Level.IMPLEMENTATION)))


def test_a_bad_profile_says_what_is_wrong(tmp_path: object) -> None:
    with pytest.raises(ProfileError, match="unknown features nope"):
        Profile.read("name: x\nfeatures: [nope]\n", "file")
    with pytest.raises(ProfileError, match="features: Field required"):
        Profile.read("name: x\n", "file")
    with pytest.raises(ProfileError, match="expected auto, smi-mesh"):
        load("/nowhere/at/all.yaml")
