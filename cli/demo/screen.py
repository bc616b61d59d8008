"""Draws the story on the terminal, and on request as a picture (SVG).

The picture is a second console that records the lasting parts: no YAML, no half-drawn progress.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from cli.demo.judge import Tally, Verdict, shares
from cli.demo.story import Count, Step

PICTURE_WIDTH: Final = 104
BAR_WIDTH: Final = 74
REFRESH: Final = 12
"""Frames per second of the live table."""


@dataclass(slots=True)
class ShareRow:
    """One line of the table of shares, filled while the requests flow."""

    count: Count
    tally: Tally
    live: float | None = None
    """Seconds from apply to live."""


class Screen:
    """The terminal. `picture` keeps what belongs in the SVG."""

    def __init__(self, console: Console, *, draw: bool = False) -> None:
        self._console = console
        self._picture = (
            Console(
                record=True, width=PICTURE_WIDTH, file=io.StringIO(), force_terminal=True, highlight=False
            )
            if draw
            else None
        )

    def save(self, path: Path, title: str) -> None:
        """Write the picture; only for a screen that draws."""
        assert self._picture is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._picture.save_svg(str(path), title=title)

    def opening(self, mode: str, seconds: float) -> None:
        """The cluster is up."""
        self._show(
            Text.from_markup(
                f"[bold]smi-mesh demo[/]  ·  embedded cluster in [cyan]{mode}[/] mode, mesh ready after"
                f" [cyan]{seconds:.1f} s[/]"
            )
        )

    def note(self, text: str) -> None:
        """A remark that does not belong in the picture."""
        self._console.print(Text(text, style="dim"))

    def step(self, number: int, total: int, step: Step, yaml: str) -> None:
        """Announce a step: what it is about, what is applied, how kubectl does the same."""
        self._show(Text(""))
        self._show(Rule(f"[bold]{number}/{total}  {step.title}[/]", align="left", style="cyan"))
        self._show(Padding(Markdown(step.text), (0, 0, 0, 2)))
        self._console.print(Padding(Syntax(yaml.strip(), "yaml", background_color="default"), (1, 0, 0, 4)))
        command = Syntax(step.kubectl, "bash", background_color="default", word_wrap=True)
        self._console.print(Padding(command, (1, 0, 1, 4)))

    def live(self, seconds: float | None) -> None:
        """How long it took until every proxy concerned ran the change."""
        if seconds is None:
            self._show(Text("  not live in every proxy in time", style="bold red"))
        else:
            told = f"  live in every proxy concerned after [bold]{1000 * seconds:.0f} ms[/]"
            self._show(Text.from_markup(told))

    def verdict(self, verdict: Verdict) -> None:
        """One line: what was tried, announced and observed."""
        mark = Text("  ✔ ", style="green") if verdict.ok else Text("  ✘ ", style="bold red")
        line = Text.assemble(mark, f"{verdict.title:<34}", ("→ ", "dim"), (verdict.observed, _style(verdict)))
        if not verdict.ok:
            line.append(f"   announced: {verdict.announced}", style="yellow")
        self._show(line)

    @contextmanager
    def counting(self, rows: Sequence[ShareRow]) -> Iterator[Live]:
        """The live table of shares; call `refresh` on what this yields after each batch."""
        with Live(
            get_renderable=lambda: _counting(rows),
            console=self._console,
            refresh_per_second=REFRESH,
        ) as live:
            yield live
        if not self._console.is_terminal:
            self._console.print()  # Live ends without a line break where it cannot redraw

    def shares(self, rows: Sequence[ShareRow]) -> None:
        """The finished table, for the picture only: the terminal has seen it live."""
        if self._picture is not None:
            self._picture.print(Padding(share_table(rows), (0, 0, 0, 1)))

    def summary(self, verdicts: Mapping[str, Sequence[Verdict]], seconds: float) -> None:
        """The closing table: one line per step, and what did not come out as announced."""
        table = Table(title="What was announced, and what happened", title_justify="left", title_style="bold")
        table.add_column("Step")
        table.add_column("Exchanges", justify="right")
        table.add_column("Checks", justify="right")
        table.add_column("As announced")
        for title, lines in verdicts.items():
            good = sum(verdict.ok for verdict in lines)
            style = "green" if good == len(lines) else "bold red"
            table.add_row(
                title,
                str(sum(verdict.exchanges for verdict in lines)),
                f"{good}/{len(lines)}",
                Text("yes" if good == len(lines) else "NO", style=style),
            )
        self._show(Text(""))
        self._show(table)
        for title, lines in verdicts.items():
            for verdict in lines:
                if not verdict.ok:
                    self._show(Text(f"✘ {title}: {verdict.title}", style="bold red"))
                    self._show(Text(f"    announced: {verdict.announced}\n    observed:  {verdict.observed}"))
        total = sum(verdict.exchanges for lines in verdicts.values() for verdict in lines)
        self._show(
            Text(f"{total} requests and connections, {seconds:.1f} s from nothing to here.", style="bold")
        )

    def _show(self, what: RenderableType) -> None:
        self._console.print(what)
        if self._picture is not None:
            self._picture.print(what)


def _style(verdict: Verdict) -> str:
    return "bold" if verdict.ok else "bold red"


def _counting(rows: Sequence[ShareRow]) -> RenderableType:
    """The table and, while requests flow, the progress of the last row."""
    table = Padding(share_table(rows), (0, 0, 0, 1))
    if not rows or rows[-1].tally.sent >= rows[-1].count.picks:
        return table
    tally, picks = rows[-1].tally, rows[-1].count.picks
    bar = ProgressBar(total=picks, completed=tally.sent, width=BAR_WIDTH)
    return Group(table, Padding(bar, (0, 0, 0, 2)))


def share_table(rows: Sequence[ShareRow]) -> Table:
    """Wanted beside observed share per backend, the exact bound, and the time to live."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("wanted", no_wrap=True)
    names = [name for name, _ in rows[0].count.weights] if rows else []
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
        table.add_column("allowed", justify="right", style="dim", no_wrap=True)
    table.add_column("of", justify="right", no_wrap=True)
    table.add_column("live", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_share_cells(row, names))
    return table


def _share_cells(row: ShareRow, names: Sequence[str]) -> list[RenderableType]:
    parts = {part.name: part for part in shares(row.count, row.tally)}
    cells: list[RenderableType] = [Text(row.count.label, style="bold")]
    for name in names:
        part = parts[name]
        observed = f"{part.count}  {100 * float(part.observed):5.1f} %"
        cells += [Text(observed, style="green" if part.ok else "bold red"), str(part.bound)]
    cells.append(str(row.tally.sent))
    cells.append("" if row.live is None else f"{1000 * row.live:.0f} ms")
    return cells
