"""`smi-mesh demo`: a cluster of its own, the story, a clean machine afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cli.cluster import Cluster, UpOptions, bring_up, default_state_dir, take_down
from cli.demo.picture import draw
from cli.demo.play import Outcome, play
from cli.demo.screen import Screen
from cli.demo.stage import Stage
from cli.demo.story import NAMESPACE, STORY
from cli.kube import Kube
from cli.output import Output, messages, output_option, print_json
from cli.progress import progress
from cli.run import run
from localmesh.daemon import Mode


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How the demo is played."""

    state_dir: Path
    mode: Mode
    keep: bool
    svg: Path | None
    animation: Path | None
    output: Output


@click.command()
@click.option("--keep", is_flag=True, help="Leave the cluster running and say how to go on.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "netns", "loopback"]),
    default="auto",
    show_default=True,
    help="See `smi-mesh local up --help`.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: default_state_dir("demo"),
    help="Where the demo's cluster lives.  [default: ~/.local/state/smi-mesh/demo]",
)
@click.option(
    "--svg",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write what the terminal showed, as a picture.",
)
@click.option(
    "--animation",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write an animated picture (SVG) of the requests of this run.",
)
@output_option
def demo(
    state_dir: Path, mode: Mode, keep: bool, svg: Path | None, animation: Path | None, output: Output
) -> None:
    """Tell what the mesh does, with real proxies and real requests, in well under a minute.

    Exit code 0: everything came out as announced. Exit code 1: something did not, and was printed.
    """
    outcome = _perform(DemoOptions(state_dir, mode, keep, svg, animation, output))
    raise click.exceptions.Exit(0 if outcome.ok else 1)


def _perform(options: DemoOptions) -> Outcome:
    began = time.monotonic()
    console = messages() if options.output is Output.JSON else Console(highlight=False)
    screen = Screen(console, draw=options.svg is not None)
    with _own_cluster(options) as cluster:
        screen.opening(cluster.mode, time.monotonic() - began)
        outcome = run(_tell(cluster, screen))
        seconds = time.monotonic() - began
        screen.summary(outcome.verdicts, seconds)
        if options.svg is not None:
            screen.save(options.svg, "smi-mesh demo")
        if options.animation is not None:
            options.animation.parent.mkdir(parents=True, exist_ok=True)
            options.animation.write_text(draw(outcome.scenes), encoding="utf-8")
        if options.output is Output.JSON:
            print_json(_document(outcome, cluster, seconds))
        if options.keep:
            console.print(how_to_go_on(cluster), soft_wrap=True, markup=False)
    return outcome


async def _tell(cluster: Cluster, screen: Screen) -> Outcome:
    async with Kube.connect(cluster.kubeconfig) as kube, Stage.open(kube) as stage:
        await stage.clear()
        return await play(stage, screen, STORY)


@contextmanager
def _own_cluster(options: DemoOptions) -> Iterator[Cluster]:
    """The demo's cluster; taken down whatever happens, unless it is to be kept."""
    console = messages()
    try:
        with progress(console) as shown:
            cluster = bring_up(UpOptions(options.state_dir, options.mode), shown.say)
        yield cluster
    finally:
        if not options.keep:
            with progress(console) as shown:
                take_down(options.state_dir, shown.say)


def _document(outcome: Outcome, cluster: Cluster, seconds: float) -> dict[str, Any]:
    return {
        "ok": outcome.ok,
        "mode": cluster.mode,
        "seconds": round(seconds, 2),
        "live_seconds": outcome.live,
        "steps": {
            title: [asdict(verdict) for verdict in verdicts] for title, verdicts in outcome.verdicts.items()
        },
    }


def how_to_go_on(cluster: Cluster) -> str:
    """What to type after `--keep`."""
    return f"""
The cluster is still running. Go on with:

  export KUBECONFIG={cluster.kubeconfig}
  kubectl -n {NAMESPACE} get pods,trafficsplits,traffictargets
  kubectl -n {NAMESPACE} describe trafficsplit api-rollout
  kubectl -n {NAMESPACE} edit trafficsplit api-rollout
  smi-mesh local status --state-dir {cluster.state_dir}

and when you have seen enough:

  smi-mesh local down --state-dir {cluster.state_dir}
"""
