"""`python -m localmesh`: the daemon (`run`), and `up`, `down`, `status` for scripts."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from dataclasses import asdict
from logging.handlers import RotatingFileHandler
from pathlib import Path

from localmesh import cluster, daemon
from localmesh.prometheus import Wanted

LOG_BYTES = 4 * 1024 * 1024


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.command == "run":
        return _run(options)
    try:
        if options.command == "up":
            wanted = _prometheus(options)
            found = cluster.up(
                options.state_dir, options.mode, images=options.images, prometheus=wanted, progress=_tell
            )
            sys.stdout.write(f"export KUBECONFIG={found.kubeconfig}\n")
        elif options.command == "down":
            cluster.down(options.state_dir, keep=options.keep, progress=_tell)
        else:
            return _status(options.state_dir)
    except cluster.ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _run(options: argparse.Namespace) -> int:
    state_dir: Path = options.state_dir.resolve()
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = RotatingFileHandler(state_dir / "daemon.log", maxBytes=LOG_BYTES, backupCount=1)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=[log]
    )
    for noisy in ("asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    settings = daemon.Settings(state_dir, options.mode, options.images, _prometheus(options), options.port)
    return asyncio.run(daemon.run(settings))


def _prometheus(options: argparse.Namespace) -> Wanted | None:
    if options.prometheus is None:
        return None
    rules, annotations = options.prometheus_rules, options.prometheus_port_annotation
    return Wanted(options.prometheus, tuple(path.resolve() for path in rules), tuple(annotations))


def _status(state_dir: Path) -> int:
    found = cluster.status(state_dir)
    if found is None:
        sys.stdout.write("{}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(found), default=str, indent=2) + "\n")
    return 0


def _tell(phase: str) -> None:
    sys.stderr.write(f"{phase}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localmesh", description="An embedded Kubernetes-like cluster."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "up", "down", "status"):
        command = commands.add_parser(name)
        command.add_argument("--state-dir", type=Path, required=True)
        if name in ("run", "up"):
            command.add_argument("--mode", choices=("auto", "netns", "loopback"), default="auto")
            command.add_argument("--images", type=Path)
            command.add_argument(
                "--prometheus", type=float, metavar="SECONDS", help="run a Prometheus that scrapes so often"
            )
            command.add_argument("--prometheus-rules", type=Path, action="append", default=[])
            command.add_argument("--prometheus-port-annotation", action="append", default=[])
        if name == "run":
            command.add_argument(
                "--port", type=int, default=0, help="port of the API server (0: as before, or any)"
            )
        if name == "down":
            command.add_argument("--keep", action="store_true", help="keep the objects for the next `up`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
