"""The recorded kubectl sweep: what 81 commands answered and asked, and how an answer is compared with it.

The records (golden/NOTICE) were made against a throw-away server: exit codes, requests and most first lines
are what any cluster gives, but it had columns of few kinds, no metrics and no events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

GOLDEN = Path(__file__).parent / "golden"

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "nginx:1", ports: [{containerPort: 80}]}]
"""
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns: [{name: Spec, type: string, jsonPath: .spec.cronSpec}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: the spec
            properties: {cronSpec: {type: string}, replicas: {type: integer}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
CRON_TAB = """
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: c1}
spec: {cronSpec: "* * *", replicas: 1}
"""
FILES = {
    "dep.yaml": DEPLOYMENT,
    "dep2.yaml": DEPLOYMENT.replace("nginx:1", "nginx:2"),
    "crd.yaml": DEFINITION,
    "ct.yaml": CRON_TAB,
}
IMAGES = """
nginx: {command: [sh, -c, "echo hello from pod log; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"]}
busybox: {command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"]}
"""
"""Containers that say a line, wait, and end when told to."""


@dataclass(frozen=True)
class Recorded:
    command: str
    code: int
    lines: tuple[str, ...]
    """The first two of the output."""
    requests: tuple[str, ...]
    """METHOD path → status, comparable."""


def read(name: str) -> list[Recorded]:
    """A record of the golden folder, in order."""
    found: list[Recorded] = []
    for block in (GOLDEN / name).read_text().split("### ")[1:]:
        head, *rest = block.splitlines()
        match = re.fullmatch(r"\[(\d+)\] kubectl (.*)", head)
        assert match is not None, head
        lines = tuple(line.removeprefix("   >").strip() for line in rest if line.startswith("   >"))
        requests = tuple(_recorded_request(line) for line in rest if line.startswith("     "))
        asked = [request for request in requests if request]
        found.append(Recorded(match[2], int(match[1]), lines, tuple(asked)))
    return found


def _recorded_request(line: str) -> str:
    match = re.match(r" +(\w+) (\S+) .*-> (\d+)", line)
    assert match is not None, line
    return comparable_request(match[1], match[2], match[3])


_OURS = re.compile(r"(GET|PUT|POST|PATCH|DELETE) https?://[^/]+(/\S*) (\d+) .* in \d+ milliseconds")
_NEWER = re.compile(r'verb="(\w+)" url="https?://[^/]+(/[^"]*)" status="(\d+) ')
"""kubectl 1.33 and newer."""


def requests_in(log: str) -> Iterator[str]:
    """What kubectl says at -v=6 that it asked."""
    for line in log.splitlines():
        match = _OURS.search(line) or _NEWER.search(line)
        request = comparable_request(match[1], match[2], match[3]) if match else ""
        if request:
            yield request


def comparable_request(method: str, path: str, status: str) -> str:
    """ "" for discovery and documents, which kubectl caches, and for watches, whose number is chance."""
    path, _, query = unquote(path).partition("?")
    if (
        path.startswith("/openapi/")
        or path in ("/api", "/apis", "/api/v1", "/version")
        or "watch=true" in query
    ):
        return ""
    path = re.sub(r"/pods/(\w+)-[\w-]+", r"/pods/\1-*", path)
    options = [
        part
        for part in query.split("&")
        if part.startswith(("fieldManager", "fieldValidation", "dryRun", "force", "labelSelector"))
    ]
    shown = path + ("?" + "&".join(sorted(options)) if options else "")
    return f"{method} {shown} {status}"


def output_in(log: str) -> list[str]:
    """What is left of stderr without the chatter of -v=6."""
    lines = []
    inside = False
    for line in log.splitlines():
        if re.match(r"[IW]\d{4} ", line):
            inside = line.endswith("[{")
        elif not inside:
            lines.append(line)
        else:
            inside = line != "}]"
    return lines


def comparable_line(line: str) -> str:
    """Without ages, random names, colours, addresses and places."""
    line = re.sub("\x1b\\[[0-9;]*m", "", line)
    line = re.sub(r"\b(web|d|d1)-[a-z0-9]+-[a-z0-9]{5}\b", r"\1-*", line)
    line = re.sub(r"Version: v[\d.]+\S*", "Version: V", line)
    line = re.sub(r"https?://[\w.:]+", "URL", line)
    line = re.sub(r"/tmp/(LIVE|MERGED)-\d+", r"\1", line)
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:.*", "TIME", line)
    line = re.sub(r"^E\d{4} \S+ +\d+ ([\w.]+):\d+\]", r"E \1", line)
    line = re.sub(r"\b\d+s$", "AGE", re.sub(r"\s+", " ", line).strip())
    return re.sub(r"'\S*/scratch'", "'./scratch'", line)


CUT = 170
"""Characters of a line that were recorded."""


def holds(recorded: tuple[str, ...], output: list[str]) -> bool:
    """Whether the recorded lines are in the output, in their order."""
    rest = iter([comparable_line(line) for line in output])
    return all(
        any(there.startswith(wanted) if len(line) >= CUT else there == wanted for there in rest)
        for line in recorded
        if (wanted := comparable_line(line))
    )
