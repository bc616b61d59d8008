"""The script holds together: its manifests exist, are what they say, and can be drawn."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from cli.demo.judge import Tally, Verdict
from cli.demo.picture import draw, stage_scene
from cli.demo.play import inventory
from cli.demo.screen import Screen, ShareRow
from cli.demo.stage import manifest_objects, manifest_text
from cli.demo.story import LIVE_SECONDS, NAMESPACE, STORY, Ask, Count, Step
from smi.api.parse import Parsed, parse

STEPS = pytest.mark.parametrize("step", STORY, ids=lambda step: step.title)


@STEPS
def test_every_manifest_is_in_the_shop(step: Step) -> None:
    for obj in manifest_objects(step.manifest):
        if obj["kind"] == "Namespace":
            assert obj["metadata"]["name"] == NAMESPACE
        else:
            assert obj["metadata"]["namespace"] == NAMESPACE


@STEPS
def test_every_smi_object_parses_without_findings(step: Step) -> None:
    for obj in manifest_objects(step.manifest):
        if ".smi-spec.io/" in obj["apiVersion"]:
            parsed = parse(obj)
            assert isinstance(parsed, Parsed), parsed
            assert not parsed.findings


@STEPS
def test_what_is_watched_is_what_is_applied(step: Step) -> None:
    applied = {
        (obj["apiVersion"], obj["kind"], obj["metadata"]["name"]) for obj in manifest_objects(step.manifest)
    }
    assert set(step.watched) <= applied


@STEPS
def test_the_kubectl_command_applies_a_file_that_exists(step: Step) -> None:
    first = step.kubectl.splitlines()[0]
    assert first == f"kubectl apply -f cli/demo/manifests/{step.manifest}"
    assert Path("cli/demo/manifests", step.manifest).exists()


def test_the_rollout_announces_what_its_manifests_say() -> None:
    rollout = [step for step in STORY if step.title.startswith("Rollout")]
    assert len(rollout) == 4
    for step in rollout:
        (split,) = manifest_objects(step.manifest)
        (count,) = step.checks
        assert isinstance(count, Count)
        assert dict(count.weights) == {b["service"]: b["weight"] for b in split["spec"]["backends"]}
        assert step.live_within == LIVE_SECONDS


def test_a_long_manifest_is_told_by_kind() -> None:
    text = inventory(STORY[0])
    assert "shop.yaml" in text
    assert "smi-mesh.io/inject: enabled" in text
    assert "web, stranger, api-v1, api-v2, db" in text


def test_the_story_is_drawn_on_terminal_and_picture(tmp_path: Path) -> None:
    file = io.StringIO()
    screen = Screen(Console(file=file, width=120), draw=True)
    screen.opening("netns", 7.5)
    step = STORY[3]
    screen.step(4, 8, step, manifest_text(step.manifest))
    screen.live(0.042)
    screen.live(None)
    (count,) = step.checks
    assert isinstance(count, Count)
    half = ShareRow(count, Tally(250, {"api-v1": 225, "api-v2": 25}, {}), 0.042)
    whole = ShareRow(count, Tally(500, {"api-v1": 250, "api-v2": 250}, {}), None)
    with screen.counting([half, whole]) as live:
        live.refresh()
    screen.shares([half, whole])
    good = Verdict("web: GET api/items", "200", "200 from api-v1", ok=True)
    bad = Verdict("web: GET api/admin", "403 route-not-allowed", "200", ok=False)
    screen.verdict(good)
    screen.verdict(bad)
    screen.summary({"One": [good], "Two": [good, bad]}, 12.5)
    screen.save(tmp_path / "pictures" / "demo.svg", "demo")
    told = file.getvalue()
    for part in (
        "4/8",
        "weight: 90",
        "kubectl apply -f",
        "42 ms",
        "225",
        "90.0 %",
        "announced: 403",
        "NO",
        "12.5 s",
    ):
        assert part in told
    picture = (tmp_path / "pictures" / "demo.svg").read_text()
    assert "<svg" in picture
    assert "42&#160;ms" in picture
    assert "kubectl" not in picture


def test_the_run_becomes_an_animated_picture() -> None:
    scenes = []
    for step in STORY:
        verdicts = [
            Verdict(check.title, "", "200 from api-v2" if check.status == 200 else "403 <why>", ok=True)
            if isinstance(check, Ask)
            else Verdict(check.title, "", "db ready · db 1" if check.opens else "reset", ok=True)
            for check in step.checks
            if not isinstance(check, Count)
        ]
        rows = [
            ShareRow(check, Tally(check.picks, dict(check.weights), {}), 0.07)
            for check in step.checks
            if isinstance(check, Count)
        ]
        scenes.append(stage_scene(step, verdicts, rows, 0.07))
    picture = draw(scenes)
    root = ElementTree.fromstring(picture)
    groups = root.findall("{http://www.w3.org/2000/svg}g")
    assert len(groups) == len(STORY)
    assert "403 &lt;why&gt;" in picture
    ninety = scenes[3]
    assert [dot.colour for dot in ninety.dots].count("v2") == 1
    assert ninety.shares == {"api-v1": "90.0 %", "api-v2": "10.0 %"}
    assert [dot.colour for dot in scenes[0].dots] == ["no", "no", "no"]
    for times in re.findall(r'keyTimes="([^"]*)"', picture):
        numbers = [float(number) for number in times.split(";")]
        assert numbers == sorted(numbers)
        assert numbers[0] == 0
