"""Plays the story: applies each step, has the pods send the requests, judges, draws."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cli.demo.judge import Tally, Verdict, judge_ask, judge_count, judge_dial, judge_live, passed
from cli.demo.picture import Scene, stage_scene
from cli.demo.screen import Screen, ShareRow
from cli.demo.stage import Stage, manifest_objects, manifest_text
from cli.demo.story import Ask, Check, Count, Dial, Step


@dataclass(slots=True)
class Outcome:
    """What came of the story so far."""

    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    live: dict[str, float | None] = field(default_factory=dict)
    """Seconds from apply to live, by step."""
    shares: list[ShareRow] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    """What an animated picture of this run shows."""

    @property
    def ok(self) -> bool:
        """Whether everything came out as announced."""
        return passed([verdict for lines in self.verdicts.values() for verdict in lines])


async def play(stage: Stage, screen: Screen, story: Sequence[Step]) -> Outcome:
    """Play every step; what does not come out as announced is a verdict, not an exception."""
    outcome = Outcome()
    for number, step in enumerate(story, 1):
        yaml = manifest_text(step.manifest) if step.whole_yaml else inventory(step)
        screen.step(number, len(story), step, yaml)
        before = len(outcome.shares)
        verdicts = outcome.verdicts[step.title] = await _play_step(stage, screen, step, outcome)
        live = outcome.live.get(step.title)
        outcome.scenes.append(stage_scene(step, verdicts, outcome.shares[before:], live))
    return outcome


async def _play_step(stage: Stage, screen: Screen, step: Step, outcome: Outcome) -> list[Verdict]:
    live = await stage.apply(step)
    verdicts: list[Verdict] = []
    if step.watched:
        outcome.live[step.title] = live
        screen.live(live)
        timely = judge_live(" and ".join(name for _, _, name in step.watched), live, step.live_within)
        verdicts += [timely] if timely is not None else []
    else:
        await stage.wait_ready(_announce_ready(screen))
    counts = [check for check in step.checks if isinstance(check, Count)]
    verdicts += await _count_all(stage, screen, counts, outcome, live)
    for check in step.checks:
        if not isinstance(check, Count):
            verdicts.append(await _check(stage, check))
            screen.verdict(verdicts[-1])
    return verdicts


async def _check(stage: Stage, check: Check) -> Verdict:
    match check:
        case Ask():
            return judge_ask(check, await stage.ask(check))
        case Dial():
            return judge_dial(check, await stage.dial(check))
        case Count():
            return judge_count(check, await stage.count(check, lambda _: None))


async def _count_all(
    stage: Stage, screen: Screen, counts: Sequence[Count], outcome: Outcome, live: float | None
) -> list[Verdict]:
    """Measure shares under one live table that also shows what was measured before."""
    if not counts:
        return []
    verdicts = []
    with screen.counting(outcome.shares) as table:
        for count in counts:
            row = ShareRow(count, Tally(), live)
            outcome.shares.append(row)

            def show(tally: Tally, row: ShareRow = row) -> None:
                row.tally = tally
                table.refresh()

            row.tally = await stage.count(count, show)
            table.refresh()
            verdicts.append(judge_count(count, row.tally))
    screen.shares(outcome.shares[-len(counts) :])
    for verdict in verdicts:
        if not verdict.ok:
            screen.verdict(verdict)
    return verdicts


def inventory(step: Step) -> str:
    """The first object of a manifest too long to print, and the names of all others, by kind."""
    first = manifest_text(step.manifest).split("---\n")[0]
    kinds: dict[str, list[str]] = {}
    for obj in manifest_objects(step.manifest)[1:]:
        kinds.setdefault(obj["kind"], []).append(obj["metadata"]["name"])
    lines = [f"# {kind + ':':<16}{', '.join(names)}" for kind, names in kinds.items()]
    return "\n".join([first.strip(), "---", f"# and, in cli/demo/manifests/{step.manifest}:", *lines])


def _announce_ready(screen: Screen) -> Callable[[int, int], None]:
    """Says once when the application's pods are ready."""
    began = time.monotonic()

    def announce(ready: int, total: int) -> None:
        if ready == total:
            screen.note(f"    {total} deployments ready after {time.monotonic() - began:.1f} s")

    return announce
