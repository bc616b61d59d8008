"""Failures a person can do something about: shown as one message, never as a traceback."""

from __future__ import annotations

import click


class Failed(click.ClickException):
    """The command could not do what was asked; exit code 1. The text says what failed and what to do."""
