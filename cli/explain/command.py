"""`smi-mesh lint` and `smi-mesh explain`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Final

import click

from cli.errors import Failed
from cli.explain.decision import Explanation, Interception, Question
from cli.explain.decision import explain as answer_to
from cli.explain.denials import TooManyError, find_denial, misses
from cli.explain.lint import lint as find_remarks
from cli.explain.live import Observed, observe
from cli.explain.manifests import imagine, load, place_of
from cli.explain.remarks import Level, Remark
from cli.explain.render import Where, lines, plain
from cli.explain.sarif import sarif
from cli.output import print_json
from cli.run import run
from controller.compile.compiler import compile as compile_world
from controller.compile.topology import split_host
from controller.compile.world import World
from smi.findings import ObjectRef
from smi.names import DEFAULT_CLUSTER_DOMAIN, DEFAULT_TRUST_DOMAIN, NamespacedName
from smi.policy.match import Request
from smi.policy.path import BadTarget, normalise_target

PASSES: Final = 0
DENIED: Final = 3
SOME_PASS: Final = 4
NOBODY: Final = 5
UNKNOWN: Final = 6
"""Exit codes of `explain`; 1 and 2 are the command's own (cli.errors, click)."""
_ID: Final = re.compile(r"[0-9a-f]{12}")


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


@click.command()
@click.option(
    "--from",
    "source",
    metavar="NAME.NAMESPACE",
    help="Who calls: a pod, a workload or a service account.",
)
@click.option(
    "--to",
    "target",
    metavar="HOST:PORT",
    help="Whom: any name of a Service, an address, or a pod, workload or service account.",
)
@click.argument("method", required=False)
@click.argument("path", required=False)
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Repeat it for more.")
@click.option("--udp", is_flag=True, help="A UDP flow.")
@click.option("--denial", metavar="ID", help="A denial's id, instead of --from and --to.")
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    metavar="PATH",
    help="Ask these manifests, as for lint, and no cluster.",
)
@click.option("-n", "--namespace", default="default", show_default=True, help="Where names without one are.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="The cluster.  [default: kubectl's]")
@click.option("--context", help="The kubeconfig's context to use.")
@click.option("--trust-domain", default=DEFAULT_TRUST_DOMAIN, show_default=True, help="With -f: the mesh's.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="The form."
)
def explain(
    source: str | None,
    target: str | None,
    method: str | None,
    path: str | None,
    headers: tuple[str, ...],
    udp: bool,
    denial: str | None,
    paths: tuple[str, ...],
    namespace: str,
    kubeconfig: Path | None,
    context: str | None,
    trust_domain: str,
    output: str,
) -> None:
    """Say why a call passes or does not, and where it goes, by the functions the proxies run.

    With METHOD and PATH a request, without them a connection. With --denial what an id stands for,
    out of a response header, a log line or a metric.

    \b
    Exit codes: 0 every call passes (--denial: the id is known)   1 cluster or files cannot be read
                2 the question makes no sense                     3 no call passes
                4 calls to some backends or pods pass             5 nobody to send to: the caller gets 503
                6 the mesh does not know whom (--denial: the id)
    """
    if (denial is None) is (source is None or target is None) or (denial and (source or target)):
        raise click.UsageError("give --from and --to, or --denial")
    if udp and method:
        raise click.UsageError("a request and --udp exclude each other")
    request = _request(method, path or "/", target or "", headers) if method else None
    question = _question(source, target, namespace, request, udp) if source and target else None
    if denial is not None and not _ID.fullmatch(_bare(denial)):
        raise click.BadParameter(f"expected 12 hexadecimal digits, got {denial!r}", param_hint="--denial")
    observed, where = _manifests(paths, namespace, trust_domain) if paths else _cluster(kubeconfig, context)
    if question is None:
        _explain_denial(observed.world, _bare(denial or ""), request, output)
        return
    answer = answer_to(observed.world, question, imagined=bool(paths), interception=observed.interception)
    if output == "json":
        print_json(plain(question, answer, where))
    else:
        for line in lines(question, answer, where):
            click.echo(line)
    code = _exit_code(answer)
    if code:
        raise click.exceptions.Exit(code)


def _exit_code(answer: Explanation) -> int:
    if answer.destination.cluster is None:
        return UNKNOWN
    if not answer.ways:
        return NOBODY
    passing = answer.passing
    return PASSES if passing == 1 else SOME_PASS if passing else DENIED


def _question(source: str, target: str, namespace: str, request: Request | None, udp: bool) -> Question:
    host, port = split_host(target)
    if not host or not port:
        raise click.BadParameter(f"expected HOST:PORT, got {target!r}", param_hint="--to")
    return Question(_named(source, namespace), host, port, request, udp)


class _NotKnown(Failed):
    """The mesh has no such denial."""

    exit_code = UNKNOWN


def _bare(denial: str) -> str:
    """An id as it is copied out of a header (`…; id=…`) or a log line."""
    return denial.strip().lower().rpartition("id=")[2]


def _explain_denial(world: World, wanted: str, request: Request | None, output: str) -> None:
    snapshot = compile_world(world)
    try:
        found = find_denial(snapshot, wanted)
    except TooManyError as error:
        raise Failed(str(error)) from None
    if found is None:
        message = (
            f"no denial between the pods and TrafficTargets there are has the id {wanted}; is it of another "
            "cluster, or of a pod, an account or a port that is gone?"
        )
        raise _NotKnown(message)
    said = misses(snapshot, found, request)
    if output == "json":
        near = [{"trafficTarget": str(miss.target), "miss": miss.text} for miss in said]
        print_json({"denial": wanted, **asdict(found), "misses": near})
        return
    click.echo(f"denial {wanted}: {found.reason}")
    click.echo(f"  caller       {found.source or 'no mesh identity'}")
    click.echo(
        f"  destination  {found.destination or 'a proxy that had no configuration yet'}, port {found.port}"
    )
    for miss in said:
        click.echo(f"  TrafficTarget {miss.target}: {miss.text}")


def _named(text: str, namespace: str) -> NamespacedName:
    """`web.shop`, `shop/web` or `web`; a pod's name may have dots, a namespace has none."""
    if "/" in text:
        try:
            return NamespacedName.parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--from") from None
    name, dot, space = text.rpartition(".")
    return NamespacedName(space, name) if dot and name and space else NamespacedName(namespace, text)


def _request(method: str, target: str, authority: str, headers: Sequence[str]) -> Request:
    """The request as the proxies see it: its path normal, its header names in lower case."""
    try:
        path, _ = normalise_target(target.encode())
    except BadTarget as error:
        raise click.BadParameter(f"the proxies answer 400: {error}", param_hint="PATH") from None
    host, found = authority, list[tuple[bytes, bytes]]()
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"expected 'name: value', got {header!r}", param_hint="-H")
        if name.strip().lower() == "host":
            host = value.strip()
        else:
            found.append((name.strip().lower().encode(), value.strip().encode()))
    return Request(method.encode(), path, host.encode(), found)


def _manifests(paths: Sequence[str], namespace: str, trust_domain: str) -> tuple[Observed, Where]:
    manifests = load(paths, namespace)
    imagined = imagine(manifests, trust_domain=trust_domain, cluster_domain=DEFAULT_CLUSTER_DOMAIN)
    for complaint in manifests.complaints:
        click.echo(f"{complaint.place}: {complaint.message}", err=True)
    for text in imagined.assumed:
        click.echo(text, err=True)

    def where(ref: ObjectRef, field: str) -> str:
        place = place_of(imagined, ref, field)
        return f"{place.file}:{place.line}" if place else ""

    return Observed(imagined.world, Interception()), where


def _cluster(kubeconfig: Path | None, context: str | None) -> tuple[Observed, Where]:
    # KUBECONFIG may hold several files; kubectl merges them, here the first that exists counts
    known = [Path(one) for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one]
    usual = next((one for one in known if one.exists()), Path.home() / ".kube" / "config")
    return run(observe(kubeconfig or usual, context)), lambda _ref, _field: ""
