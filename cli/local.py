"""`smi-mesh local`: the embedded cluster with the mesh in it."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from cli.cluster import Cluster, UpOptions, bring_up, find_cluster, read_log, state_dir_option, take_down
from cli.errors import Failed
from cli.inventory import nodes_sheet, pods_sheet, proxies_sheet, read_proxies
from cli.kube import Kube
from cli.output import Output, messages, output_option, print_json, results
from cli.progress import progress
from cli.run import run
from localmesh.daemon import Mode
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE, TRACE_PROTOCOLS, trace_share


@click.group()
def local() -> None:
    """Start, look at and stop a Kubernetes-compatible cluster on this machine, with the mesh in it."""


@local.command()
@state_dir_option
@click.option(
    "--mode",
    type=click.Choice(["auto", "netns", "loopback"]),
    default="auto",
    show_default=True,
    help="netns: network namespaces and real redirection (root). loopback: 127.x addresses, any user.",
)
@click.option("--mesh/--no-mesh", default=True, show_default=True, help="Install the mesh.")
@click.option(
    "--leaf-seconds",
    type=click.FloatRange(min=5),
    default=None,
    help="Life of workload certificates, for trying out rotation.  [default: a day]",
)
@click.option(
    "--images",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="YAML file that adds images to the image table.",
)
@click.option("--prometheus", is_flag=True, help="Run a Prometheus that finds every proxy, with our rules.")
@click.option(
    "--scrape-seconds",
    type=click.FloatRange(min=0.5),
    default=5.0,
    show_default=True,
    help="How often that Prometheus scrapes.",
)
@click.option(
    "--tracing",
    metavar="URL",
    default="",
    help="Send spans to this collector; `localhost` is this machine, also seen from pods.",
)
@click.option("--tracing-protocol", type=click.Choice(TRACE_PROTOCOLS), default="otlp", show_default=True)
@click.option(
    "--trace-sampling",
    metavar="SHARE",
    default="100%",
    show_default=True,
    help="Share of the traces that begin at a sidecar.",
)
@output_option
def up(
    state_dir: Path,
    mode: Mode,
    mesh: bool,
    leaf_seconds: float | None,
    images: Path | None,
    prometheus: bool,
    scrape_seconds: float,
    tracing: str,
    tracing_protocol: str,
    trace_sampling: str,
    output: Output,
) -> None:
    """Start the cluster in the background and wait until the mesh is ready.

    Running it again is harmless: a cluster that runs is kept, one that crashed is recovered.
    """
    began = time.monotonic()
    options = UpOptions(
        state_dir,
        mode,
        mesh,
        leaf_seconds,
        images,
        scrape_seconds if prometheus else None,
        _checked_url(tracing),
        tracing_protocol,
        _checked_share(trace_sampling),
    )
    with progress(messages()) as shown:
        cluster = bring_up(options, shown.say)
    seconds = time.monotonic() - began
    if output is Output.JSON:
        print_json({**_described(cluster), "seconds": round(seconds, 2)})
        return
    click.echo(f"export KUBECONFIG={cluster.kubeconfig}")
    if cluster.prometheus:
        messages().print(f"Prometheus: {cluster.prometheus}", soft_wrap=True)
    remark = f"Ready in {seconds:.1f} s, {cluster.mode} mode. Next: kubectl get pods -A"
    messages().print(remark + ("" if mesh else "  (no mesh installed)"))


def _checked_url(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username):
        raise click.BadParameter(
            f"expected a URL such as http://localhost:4318, got {text!r}", param_hint="--tracing"
        )
    return text


def _checked_share(text: str) -> str:
    try:
        trace_share(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--trace-sampling") from None
    return text


def _described(cluster: Cluster) -> dict[str, Any]:
    return {
        "kubeconfig": str(cluster.kubeconfig),
        "mode": cluster.mode,
        "state_dir": str(cluster.state_dir),
        "prometheus": cluster.prometheus,
    }


@local.command()
@state_dir_option
@output_option
def down(state_dir: Path, output: Output) -> None:
    """Stop the cluster and remove everything it made: processes, namespaces, rules, files."""
    with progress(messages()) as shown:
        existed = take_down(state_dir, shown.say)
    if output is Output.JSON:
        print_json({"state_dir": str(state_dir), "existed": existed})
    elif not existed:
        messages().print(f"There is no cluster in {state_dir}.")


@local.command()
@state_dir_option
@output_option
def status(state_dir: Path, output: Output) -> None:
    """Show nodes, pods, proxies with the config revision each runs, and the mode's limits."""
    cluster = find_cluster(state_dir)
    sheets = run(_look(cluster))
    if output is Output.JSON:
        print_json({**_described(cluster), **sheets})
        return
    console = results()
    console.print(f"[bold]{cluster.mode}[/] mode, state in {cluster.state_dir}", soft_wrap=True)
    console.print(f"export KUBECONFIG={cluster.kubeconfig}", soft_wrap=True)
    if cluster.prometheus:
        console.print(f"Prometheus: {cluster.prometheus}", soft_wrap=True)
    for sheet in (
        nodes_sheet(sheets["nodes"]),
        pods_sheet(sheets["pods"]),
        proxies_sheet(sheets["proxies"]),
    ):
        console.print()
        console.print(sheet.table())
    console.print(f"[bold]Limits of {cluster.mode} mode[/]")
    for limit in cluster.limits:
        console.print(f"  · {limit}", markup=False)


async def _look(cluster: Cluster) -> dict[str, Any]:
    async with Kube.connect(cluster.kubeconfig) as kube:
        return {
            "nodes": await kube.objects("v1", "Node"),
            "pods": await kube.objects("v1", "Pod"),
            "proxies": await read_proxies(kube),
            "limits": list(cluster.limits),
        }


@local.command()
@state_dir_option
@click.argument("source", default="cluster")
@click.option("-c", "--container", default=None, help="Container of the pod.  [default: the first]")
@click.option("-f", "--follow", is_flag=True, help="Keep printing what is added.")
@click.option("--tail", type=click.IntRange(min=0), default=200, show_default=True, help="Last lines.")
def logs(state_dir: Path, source: str, container: str | None, follow: bool, tail: int) -> None:
    """Print a log. SOURCE is `cluster` (the embedded cluster itself), `controller`, or NAMESPACE/POD."""
    cluster = find_cluster(state_dir)
    if source == "cluster":
        run(_copy(read_log(cluster.log, follow=follow, tail=tail)))
        return
    run(_pod_log(cluster, source, container, follow, tail))


async def _pod_log(cluster: Cluster, source: str, container: str | None, follow: bool, tail: int) -> None:
    async with Kube.connect(cluster.kubeconfig) as kube:
        namespace, pod = await _pod(kube, source)
        chosen = container or pod["spec"]["containers"][0]["name"]
        name = pod["metadata"]["name"]
        await _copy(kube.logs(namespace, name, chosen, follow=follow, tail=tail))


async def _pod(kube: Kube, source: str) -> tuple[str, dict[str, Any]]:
    if source == "controller":
        pods = await kube.objects("v1", "Pod", SYSTEM_NAMESPACE)
        found = [pod for pod in pods if pod["metadata"]["name"].startswith(CONTROLLER_NAME)]
        if not found:
            raise Failed(f"no controller pod in namespace {SYSTEM_NAMESPACE}: is the mesh installed?")
        return SYSTEM_NAMESPACE, found[-1]
    namespace, slash, name = source.partition("/")
    if not (slash and namespace and name):
        raise Failed(f"{source!r}: expected `cluster`, `controller` or NAMESPACE/POD")
    path = (await kube.resource("v1", "Pod")).path(namespace, name)
    return namespace, await kube.request("GET", path)


async def _copy(pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
