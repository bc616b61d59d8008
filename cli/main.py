"""The command's front door: the group, and what becomes of signals."""

from __future__ import annotations

import signal

import click

from cli.demo.command import demo
from cli.local import local
from cli.run import INTERRUPTED, TERMINATED
from cli.version import version


class _Front(click.Group):
    """A group in which Ctrl-C means exit code 130 and nothing else."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


@click.group(cls=_Front, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """smi-mesh: a service mesh that speaks the Service Mesh Interface, on a bare machine or a cluster.

    Begin with `smi-mesh demo`, or with `smi-mesh local up`.
    """
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(*_: object) -> None:
    """Leave through every `finally`, as Ctrl-C does."""
    raise SystemExit(TERMINATED)


main.add_command(demo)
main.add_command(local)
main.add_command(version)
