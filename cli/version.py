"""`smi-mesh version`."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from cli.output import Output, output_option, print_json


@click.command()
@output_option
def version(output: Output) -> None:
    """Print the version of smi-mesh and of what it runs on."""
    facts = {
        "smi-mesh": metadata.version("smi-mesh"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if output is Output.JSON:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")
