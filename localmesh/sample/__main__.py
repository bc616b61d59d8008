"""`python -m localmesh.sample`: one role of the sample shop, chosen by ROLE."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from conformance.app.main import run
from conformance.app.settings import Settings, SettingsError
from localmesh.sample.roles import Ledger, Role, Shop


def read_role(env: Mapping[str, str]) -> Role:
    """The role that ROLE asks for; raises SettingsError naming the choices."""
    try:
        return Role(env.get("ROLE", ""))
    except ValueError:
        raise SettingsError(f"ROLE={env.get('ROLE')!r}: expected one of {', '.join(Role)}") from None


def main() -> int:
    """Run until SIGTERM; exit code 2 for settings that cannot be used, 1 for a taken port."""
    try:
        role = read_role(os.environ)
        settings = Settings.from_environment({"NAME": role.value, **os.environ})
        if role is Role.DB:
            settings = replace(settings, http_port=None, tcp_port=settings.tcp_port or 5432)
        handler = Shop(settings.name, settings.pod) if role is Role.API else None
        reply = Ledger(settings.name) if role is Role.DB else None
        asyncio.run(run(settings, handler, reply))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"cannot listen: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
