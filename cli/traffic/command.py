"""`kubectl traffic`: a kubectl plugin (console script `kubectl-traffic`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from cli.errors import Failed
from cli.run import run
from cli.traffic import graph
from cli.traffic import tap as taps
from cli.traffic import top as tops
from cli.traffic.client import Client, Where, connected, current_namespace

_AT_ONCE: Final = 8
_WORKLOADS: Final = ("deployments", "statefulsets", "daemonsets", "jobs")


@dataclass(frozen=True, slots=True)
class Scope:
    """Which cluster, and which namespace of it; an empty one means all."""

    where: Where
    namespace: str | None
    everywhere: bool

    async def resolve(self) -> str:
        if self.everywhere:
            return ""
        return self.namespace or await current_namespace(self.where)


def _scoped(command: Callable[..., Any]) -> Callable[..., Any]:
    """kubectl's flags for cluster and namespace, handed over as one Scope."""

    def call(
        *args: Any,
        kubeconfig: str | None,
        context: str | None,
        namespace: str | None,
        all_namespaces: bool,
        **rest: Any,
    ) -> Any:
        return command(*args, scope=Scope(Where(kubeconfig, context), namespace, all_namespaces), **rest)

    call.__doc__ = command.__doc__
    call.__name__ = command.__name__
    for option in (
        click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces."),
        click.option("-n", "--namespace", help="The namespace.  [default: kubectl's]"),
        click.option("--context", help="The kubeconfig's context to use."),
        click.option("--kubeconfig", help="The kubeconfig to use.  [default: kubectl's]"),
    ):
        call = option(call)
    return call


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Traffic between workloads, from the TrafficMetrics API of an SMI mesh."""


@main.command()
@click.argument("resource", type=click.Choice(sorted(tops.RESOURCES)), metavar="RESOURCE")
@click.argument("name", required=False)
@click.option("-l", "--selector", help="Only objects with these labels.")
@click.option("--sort", type=click.Choice(tops.SORTS), default="name", show_default=True)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_scoped
def top(resource: str, name: str | None, selector: str | None, sort: str, output: str, scope: Scope) -> None:
    """What each RESOURCE served in the last 30 s: pods, deployments, namespaces, services, splits, …"""
    plural = tops.RESOURCES[resource]
    if name and selector:
        raise click.UsageError("a name and a selector exclude each other")

    async def work() -> None:
        namespace = await scope.resolve()
        if name and not namespace and plural not in tops.CLUSTER_WIDE:
            raise Failed("a single object is in one namespace: give -n instead of -A")
        path = tops.path_of(plural, namespace) + (f"/{name}" if name else "")
        async with connected(scope.where) as client:
            answer = await client.get(path, {"labelSelector": selector} if selector else None)
            items = answer.get("items", [answer])
        _warn(client)
        if output == "json":
            click.echo(json.dumps(answer, indent=2))
            return
        if not items:
            click.echo(f"no traffic of {plural} in the last 30 s", err=True)
            return
        headings, rows = tops.sheet(plural, items, everywhere=not namespace, sort=sort)
        click.echo(tops.aligned(headings, rows), nl=False)

    run(work())


@main.command()
@click.argument(
    "resource", type=click.Choice([*sorted(tops.RESOURCES), "workloads"]), default="workloads",
    metavar="[RESOURCE]",
)  # fmt: skip
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "dot", "json", "svg"]),
    default="text",
    show_default=True,
    help="text: for the terminal. dot: for Graphviz. svg: a picture.",
)
@click.option("-f", "--file", type=click.Path(dir_okay=False, path_type=Path), help="Write there.")
@_scoped
def topology(resource: str, output: str, file: Path | None, scope: Scope) -> None:
    """Who calls whom, with rate, success and latency of each edge.

    RESOURCE is any that `top` knows but splits; without it, Deployments, StatefulSets, DaemonSets and
    Jobs together.
    """
    plurals = _WORKLOADS if resource == "workloads" else (tops.RESOURCES[resource],)
    if plurals == ("trafficsplits",):
        raise click.UsageError("a split is between services: see `kubectl traffic topology services`")

    async def work() -> tuple[graph.Graph, str]:
        namespace = await scope.resolve()
        async with connected(scope.where) as client:
            items = await _edges(client, plurals, namespace)
        _warn(client)
        drawn = graph.of_edges(items)
        return drawn, _RENDERERS[output](drawn, not namespace)

    drawn, text = run(work())
    if file is not None:
        file.write_text(text, encoding="utf-8")
    elif output == "text" and not drawn.edges:
        click.echo("no traffic in the last 30 s", err=True)
    else:
        click.echo(text, nl=False)


@main.command()
@click.argument("resource", metavar="RESOURCE/NAME")
@click.option("--direction", type=click.Choice(["inbound", "outbound"]), help="Received or sent by RESOURCE.")
@click.option("--from", "source", help="Received from this pod, workload or namespace.")
@click.option("--to", "target", help="Sent to this pod, workload, service or namespace.")
@click.option("--method", help="Of this method.")
@click.option("--path", help="Of a path that begins like this.")
@click.option("--status", help="With this status (503), or of this class (5xx).")
@click.option("--seconds", type=click.IntRange(1, 600), default=60, show_default=True, help="For so long.")
@click.option("--max", "most", type=click.IntRange(1), help="End after so many requests.")
@click.option(
    "--rate",
    type=click.IntRange(1, 100),
    default=20,
    show_default=True,
    help="Requests a second of each.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_scoped
def tap(
    resource: str,
    direction: str | None,
    source: str | None,
    target: str | None,
    method: str | None,
    path: str | None,
    status: str | None,
    seconds: int,
    most: int | None,
    rate: int,
    output: str,
    scope: Scope,
) -> None:
    """Live requests of RESOURCE/NAME, such as deploy/web, pod/web-0 or ns/shop, as its sidecars see them.

    Needs the right to get deployments/tap (and so on) of metrics.smi-spec.io: ClusterRole
    smi-mesh-traffic-tapper.
    """
    kind, _, name = resource.partition("/")
    plural = tops.RESOURCES.get(kind)
    if not name or plural is None or plural == "trafficsplits":
        raise click.UsageError(f"expected RESOURCE/NAME such as deploy/web, got {resource!r}")
    if source and target:
        raise click.UsageError("--from and --to exclude each other: a request is received or sent")
    if source or target:
        direction = "inbound" if source else "outbound"
    wanted = {
        "direction": direction,
        "peer": source or target,
        "method": method,
        "path": path,
        "status": status,
        "seconds": str(seconds),
        "rate": str(rate),
    }
    parameters = {key: value for key, value in wanted.items() if value}

    async def work() -> None:
        namespace = "" if plural in tops.CLUSTER_WIDE else await scope.resolve()
        if not namespace and plural not in tops.CLUSTER_WIDE:
            raise Failed("a single object is in one namespace: give -n instead of -A")
        shown = 0
        where = f"{tops.path_of(plural, namespace)}/{name}/tap"
        async with connected(scope.where) as client, client.stream(where, parameters) as lines:
            async for line in lines:
                seen = taps.read(line)
                if seen is None:
                    continue
                note = taps.remark(seen)
                if note:
                    click.echo(note, err=True)
                    continue
                click.echo(line.decode().strip() if output == "json" else taps.text(seen))
                shown += 1
                if most is not None and shown >= most:
                    return

    run(work())


_RENDERERS: Final[dict[str, Callable[[graph.Graph, bool], str]]] = {
    "text": graph.as_text,
    "dot": graph.as_dot,
    "json": graph.as_json,
    "svg": graph.as_svg,
}


async def _edges(client: Client, plurals: tuple[str, ...], namespace: str) -> list[dict[str, Any]]:
    """Every edge of every object with traffic, as the specification suggests: lists, then edges of each."""
    lists = await asyncio.gather(*(client.get(tops.path_of(plural, namespace)) for plural in plurals))
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def edges_of(plural: str, item: dict[str, Any]) -> list[dict[str, Any]]:
        resource = item["resource"]
        path = f"{tops.path_of(plural, resource.get('namespace') or '')}/{resource['name']}/edges"
        async with at_once:
            found: list[dict[str, Any]] = (await client.get(path))["items"]
        return found

    asked = [
        edges_of(plural, item)
        for plural, listed in zip(plurals, lists, strict=True)
        for item in listed["items"]
    ]
    return [edge for found in await asyncio.gather(*asked) for edge in found]


def _warn(client: Client) -> None:
    for warning in client.warnings:
        click.echo(f"Warning: {warning}", err=True)
