"""Tables for people, JSON for programs: the same rows in either form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import click
from rich.console import Console
from rich.table import Table


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
        table = Table(title=self.title, title_justify="left", title_style="bold", header_style="bold")
        for index, name in enumerate(self.columns):
            numeric = bool(self.rows) and all(isinstance(row[index], int | float) for row in self.rows)
            table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*("" if cell is None else str(cell) for cell in row))
        return table


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, default=str))


def messages() -> Console:
    """Where progress and remarks go: standard error, so that they never mix with the result."""
    return Console(stderr=True, highlight=False)
