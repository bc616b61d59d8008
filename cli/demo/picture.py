"""An animated picture (SVG) of one run of the demo: who called whom, and what came of it. Pure.

One scene per step, all on one clock that starts again at its end. A dot is a request (in a
measured share: a tenth of them); green and blue ones arrive, red ones are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from cli.demo.judge import Verdict
from cli.demo.screen import ShareRow
from cli.demo.story import Ask, Count, Dial, Step

WIDTH: Final = 780
HEIGHT: Final = 470
SCENE_SECONDS: Final = 5.0
TRAVEL: Final = 0.32
"""Part of a scene that a dot is on its way."""
DOTS: Final = 10
"""Dots that stand for a measured share."""

Point = tuple[int, int]

_PLACES: Final[Mapping[str, Point]] = {
    "web": (90, 150),
    "stranger": (90, 290),
    "api": (390, 150),
    "api-v1": (680, 105),
    "api-v2": (680, 195),
    "db": (680, 290),
}
_BOX: Final = (120, 44)

_STYLE: Final = """
svg { color-scheme: light dark; font: 14px ui-sans-serif, system-ui, sans-serif; }
.back { fill: #fbfcfd; } .box { fill: #fff; stroke: #5b6b7b; stroke-width: 1.5; }
.way { stroke: #ccd4dc; stroke-width: 1.5; } text { fill: #1c2733; } .quiet { fill: #66727f; }
.title { font-size: 18px; font-weight: 600; } .name { font-weight: 600; text-anchor: middle; }
.share { text-anchor: middle; font-size: 13px; font-weight: 600; }
.v1 { fill: #1a8f5a; } .v2 { fill: #2f6fd0; } .no { fill: #d0342c; }
.told { font: 13px ui-monospace, monospace; } .right { text-anchor: end; }
@media (prefers-color-scheme: dark) {
.back { fill: #11171d; } .box { fill: #1b242d; stroke: #8797a7; } .way { stroke: #36424e; }
text { fill: #e4eaf0; } .quiet { fill: #93a1af; }
.v1 { fill: #45c98b; } .v2 { fill: #6ea4f5; } .no { fill: #ff6b61; } }
"""


@dataclass(frozen=True, slots=True)
class Dot:
    """One request on its way: the places it passes, its colour class, and when it sets out (0..1)."""

    way: tuple[str, ...]
    colour: str
    start: float


@dataclass(frozen=True, slots=True)
class Scene:
    """One step: its dots, the lines told under the picture, and what stands beside a box."""

    title: str
    live: str
    dots: tuple[Dot, ...]
    told: tuple[tuple[str, bool], ...]
    """(line, whether the call went through)."""
    shares: Mapping[str, str]
    """Place → text beside it."""


def draw(scenes: Sequence[Scene]) -> str:
    """The whole picture as SVG text."""
    total = SCENE_SECONDS * len(scenes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>What the demo does: requests allowed, refused and split</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="10"/>',
        *_ways(),
    ]
    for index, scene in enumerate(scenes):
        parts += _scene(scene, index, len(scenes), total)
    parts += _boxes()
    return "\n".join([*parts, "</svg>", ""])


def _ways() -> Iterator[str]:
    for start, end in (("web", "api"), ("stranger", "api"), ("api", "api-v1"), ("api", "api-v2")):
        yield _line(start, end)
    yield _line("web", "db")
    yield _line("stranger", "db")


def _line(start: str, end: str) -> str:
    (x1, y1), (x2, y2) = _PLACES[start], _PLACES[end]
    return f'<line class="way" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _boxes() -> Iterator[str]:
    width, height = _BOX
    for name, (x, y) in _PLACES.items():
        corner = 22 if name == "api" else 6
        yield (
            f'<rect class="box" x="{x - width // 2}" y="{y - height // 2}" '
            f'width="{width}" height="{height}" rx="{corner}"/>'
            f'<text class="name" x="{x}" y="{y + 5}">{name}</text>'
        )


def _scene(scene: Scene, index: int, count: int, total: float) -> Iterator[str]:
    begin, end = index / count, (index + 1) / count
    yield f'<g opacity="{1 if index == 0 else 0}">{_shown(begin, end, total)}'
    yield f'<text class="title" x="30" y="42">{escape(scene.title)}</text>'
    yield f'<text class="quiet right" x="{WIDTH - 30}" y="42">{escape(scene.live)}</text>'
    for place, text in scene.shares.items():
        x, y = _PLACES[place]
        colour = "v2" if place == "api-v2" else "v1"
        yield f'<text class="share {colour}" x="{x}" y="{y + 38}">{escape(text)}</text>'
    for number, (line, passed) in enumerate(scene.told):
        colour = "v1" if passed else "no"
        yield f'<text class="told {colour}" x="30" y="{362 + 20 * number}">{escape(line)}</text>'
    for dot in scene.dots:
        yield _dot(dot, begin, end - begin, total)
    yield "</g>"


def _shown(begin: float, end: float, total: float) -> str:
    """Visible between two points of the clock (0..1)."""
    times, values = [0.0, begin, end], [0, 1, 0]
    if begin == 0:
        times, values = times[1:], values[1:]
    if end >= 1:
        times, values = times[:-1], values[:-1]
    if len(times) == 1:
        return ""
    return (
        f'<animate attributeName="opacity" dur="{total:g}s" repeatCount="indefinite" calcMode="discrete" '
        f'values="{";".join(map(str, values))}" keyTimes="{";".join(f"{time:.4f}" for time in times)}"/>'
    )


def _dot(dot: Dot, begin: float, length: float, total: float) -> str:
    start = begin + length * dot.start
    arrive = min(start + length * TRAVEL, 0.9999)
    path = "L".join(f"{x} {y}" for x, y in (_PLACES[place] for place in dot.way))
    return (
        f'<circle class="{dot.colour}" r="6" opacity="0">'
        f'<animateMotion dur="{total:g}s" repeatCount="indefinite" calcMode="linear" path="M{path}" '
        f'keyPoints="0;0;1;1" keyTimes="0;{max(start, 0.0001):.4f};{arrive:.4f};1"/>'
        f"{_shown(max(start, 0.0001), arrive, total)}</circle>"
    )


def stage_scene(
    step: Step, verdicts: Sequence[Verdict], rows: Sequence[ShareRow], live: float | None
) -> Scene:
    """The scene of one step as it went: its checks' verdicts and its measured shares."""
    by_title = {verdict.title: verdict for verdict in verdicts}
    dots: list[Dot] = []
    told: list[tuple[str, bool]] = []
    singles = [check for check in step.checks if not isinstance(check, Count)]
    for number, check in enumerate(singles):
        verdict = by_title[check.title]
        start = number * (1 - TRAVEL) / max(len(singles), 1)
        dots.append(_single(check, verdict, start))
        told.append((f"{check.title}  →  {verdict.observed}", dots[-1].colour != "no"))
    shares: dict[str, str] = {}
    for row in rows:
        dots += _measured(row)
        told.append((f"{row.count.title}  →  {_counted(row)}", True))
    if len(rows) == 1:
        shares = {name: f"{_percent(rows[0], name):.1f} %" for name, _ in rows[0].count.weights}
    text = "" if live is None else f"live in every proxy after {1000 * live:.0f} ms"
    return Scene(step.title, text, tuple(dots), tuple(told), shares)


def _single(check: Ask | Dial, verdict: Verdict, start: float) -> Dot:
    if isinstance(check, Dial):
        answered = "·" in verdict.observed
        return Dot((check.caller, "db"), "v1" if answered else "no", start)
    server = verdict.observed.partition(" from ")[2]
    if server in _PLACES:
        return Dot((check.caller, "api", server), "v2" if server == "api-v2" else "v1", start)
    return Dot((check.caller, "api"), "no", start)


def _measured(row: ShareRow) -> Iterator[Dot]:
    """Dots in the proportion that was measured, the smaller share spread among the larger."""
    second = row.count.weights[1][0]
    share = _percent(row, second) / 100
    due = 0.0
    for number in range(DOTS):
        due += share
        server = second if due >= 0.5 else row.count.weights[0][0]
        due -= server == second
        colour = "v2" if server == "api-v2" else "v1"
        yield Dot(("web", "api", server), colour, number * (1 - TRAVEL) / DOTS)


def _percent(row: ShareRow, name: str) -> float:
    servers = row.tally.servers or {}
    return 100 * servers.get(name, 0) / max(sum(servers.values()), 1)


def _counted(row: ShareRow) -> str:
    servers = row.tally.servers or {}
    return ", ".join(f"{name} {servers.get(name, 0)}" for name, _ in row.count.weights)
