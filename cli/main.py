"""The command's front door: the commands by name, and what becomes of signals.

A command's module is imported when it is called, so that `smi-mesh version` does not pay for a
cluster, and so that Ctrl-C during an import is an interruption and not a traceback.
"""

from __future__ import annotations

import importlib
import signal
from typing import Final

import click

_COMMANDS: Final = {
    "conformance": "cli.conformance",
    "demo": "cli.demo.command",
    "explain": "cli.explain.command",
    "lint": "cli.explain.command",
    "local": "cli.local",
    "version": "cli.version",
}
"""Command → the module that defines it under the same name."""
INTERRUPTED: Final = 130
TERMINATED: Final = 143


class Front(click.Group):
    """Finds commands by name; Ctrl-C means exit code 130 and nothing else."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        found = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


@click.group(cls=Front, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """smi-mesh: a service mesh that speaks the Service Mesh Interface, on a bare machine or a cluster.

    Begin with `smi-mesh demo`, or with `smi-mesh local up`.
    """
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(*_: object) -> None:
    """Leave through every `finally`, as Ctrl-C does."""
    raise SystemExit(TERMINATED)
