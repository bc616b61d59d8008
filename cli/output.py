"""Tables for people, JSON for programs: the same rows in either form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import click
from rich import box
from rich.console import Console
from rich.table import Table

PIPE_WIDTH: Final = 140
"""Columns of what is printed into a pipe or a file."""


class Output(StrEnum):
    """How a command prints what it found (`--output`)."""

    TABLE = "table"
    JSON = "json"


def output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--output table|json`, handed to the command as an `Output`."""

    def read(_: click.Context, __: click.Parameter, value: str) -> Output:
        return Output(value)

    option = click.option(
        "-o",
        "--output",
        type=click.Choice([choice.value for choice in Output]),
        default=Output.TABLE.value,
        callback=read,
        help="A table for people, or JSON on standard output.",
    )
    return option(command)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A titled table. Rows hold plain values; `columns` are their headings in order."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def table(self) -> Table:
        """The rich form; a column of numbers is right-aligned."""
        table = Table(
            title=self.title,
            title_justify="left",
            title_style="bold",
            header_style="bold",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for index, name in enumerate(self.columns):
            numeric = bool(self.rows) and all(isinstance(row[index], int | float) for row in self.rows)
            table.add_column(name, justify="right" if numeric else "left", no_wrap=index == 0)
        for row in self.rows:
            table.add_row(*("" if cell is None else str(cell) for cell in row))
        return table


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, default=str))


def results() -> Console:
    """Where a command's result goes: standard output, wide when it is not a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def messages() -> Console:
    """Where progress and remarks go: standard error, so that they never mix with the result."""
    return Console(stderr=True, highlight=False)
