"""`smi-mesh lint` and `smi-mesh explain`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata

import click

from cli.explain.lint import lint as find_remarks
from cli.explain.manifests import load
from cli.explain.remarks import Level, Remark
from cli.explain.sarif import sarif
from cli.output import print_json


@click.command()
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    metavar="PATH",
    help="A file, a folder (with all below it), or - for standard input. Repeat it for more.",
)
@click.option(
    "-n",
    "--namespace",
    default="default",
    show_default=True,
    help="Where objects are that name no namespace.",
)
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "sarif", "json"]),
    default="text",
    show_default=True,
    help="text: one line each. sarif: SARIF 2.1.0, for code hosts and editors.",
)
def lint(paths: tuple[str, ...], namespace: str, strict: bool, output: str) -> None:
    """Read manifests as the mesh would, and say what is wrong with them, by file and line.

    References are looked up among these manifests alone. Exit code 1 if there is an error.
    """
    manifests = load(paths, namespace)
    remarks = find_remarks(manifests)
    if output == "sarif":
        print_json(sarif(remarks, metadata.version("smi-mesh")))
    elif output == "json":
        print_json([_plain(remark) for remark in remarks])
    else:
        for remark in remarks:
            click.echo(_line(remark))
        click.echo(_summary(remarks, len(manifests.documents)), err=True)
    failing = {Level.ERROR, Level.WARNING} if strict else {Level.ERROR}
    if any(remark.level in failing for remark in remarks):
        raise click.exceptions.Exit(1)


def _line(remark: Remark) -> str:
    about = f" {remark.subject}:" if remark.subject else ""
    return f"{remark.place}: {remark.level}:{about} {remark.message} [{remark.rule}]"


def _plain(remark: Remark) -> dict[str, object]:
    values = asdict(remark)
    return {**values.pop("place"), **values}


def _summary(remarks: Sequence[Remark], objects: int) -> str:
    counts = Counter(remark.level for remark in remarks)
    said = ", ".join(f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}" for level in Level)
    return f"{objects} object{'' if objects == 1 else 's'}: {said}"
