"""A real Prometheus beside the cluster: writes its configuration and targets, looks after its process.

Debian's Prometheus is built without Kubernetes discovery. So the pods are told to it in a file, each
with the very labels that discovery of role `pod` would give it, and the relabelling is what one writes
for any cluster. What the pods tell, and what the rules are about, is not known here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from localmesh.apiserver.api import Api
from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.node.process import CLUSTER_MARK
from localmesh.tasks import TaskGroup, keep_running

_log = logging.getLogger(__name__)

BINARY: Final = "prometheus"
DIRECTORY: Final = "prometheus"
RETENTION: Final = "6h"
READY_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05
_GATHER_SECONDS: Final = 0.1
"""Changes of pods that come so close together are written once."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the Prometheus of a cluster is to do besides scraping pods by `prometheus.io/` annotations."""

    interval: float = 5.0
    """Seconds between two scrapes of a pod, and between two evaluations of the rules."""
    rules: tuple[Path, ...] = ()
    """Files of recording and alert rules."""
    port_annotations: tuple[str, ...] = ()
    """Annotations of pods whose value is one more port to scrape."""


def configuration(wanted: Wanted, targets: Path) -> dict[str, Any]:
    """The content of `prometheus.yml`; `targets` is the file that names the pods."""
    interval = f"{round(wanted.interval * 1000)}ms"
    jobs = [_job("kubernetes-pods", targets, _by_prometheus_annotations())]
    for annotation in wanted.port_annotations:
        name = f"kubernetes-pods-{_meta(annotation)}"
        jobs.append(_job(name, targets, _by_port_annotation(annotation)))
    return {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": [str(path) for path in wanted.rules],
        "scrape_configs": jobs,
    }


def _job(name: str, targets: Path, chosen: list[dict[str, Any]]) -> dict[str, Any]:
    ended = {"source_labels": ["__meta_kubernetes_pod_phase"], "action": "drop", "regex": "Succeeded|Failed"}
    labels = [
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    return {
        "job_name": name,
        # It also watches the file, but a change that comes while it starts may escape it.
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "5s"}],
        "relabel_configs": [ended, *chosen, *labels],
    }


def _by_prometheus_annotations() -> list[dict[str, Any]]:
    scrape, path, port = (
        f"__meta_kubernetes_pod_annotation_prometheus_io_{name}" for name in ("scrape", "path", "port")
    )
    return [
        {"source_labels": [scrape], "action": "keep", "regex": "true"},
        {"source_labels": [path], "regex": "(.+)", "target_label": "__metrics_path__"},
        _address(port),
    ]


def _by_port_annotation(annotation: str) -> list[dict[str, Any]]:
    label = f"__meta_kubernetes_pod_annotation_{_meta(annotation)}"
    return [{"source_labels": [label], "action": "keep", "regex": r"\d+"}, _address(label)]


def _address(port: str) -> dict[str, Any]:
    return {
        "source_labels": ["__meta_kubernetes_pod_ip", port],
        "separator": ":",
        "regex": r"(.+:\d+)",
        "target_label": "__address__",
    }


def _meta(name: str) -> str:
    """A name as Prometheus writes it in the name of a label."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def target(pod: JsonObject) -> dict[str, Any] | None:
    """A pod as an entry of the targets file; None while it has no address."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    address = status.get("podIP")
    if not address:
        return None
    labels = {
        "namespace": metadata.get("namespace", ""),
        "pod_name": metadata["name"],
        "pod_uid": metadata.get("uid", ""),
        "pod_ip": address,
        "pod_phase": status.get("phase", ""),
        "pod_node_name": spec.get("nodeName", ""),
        **dict(_marks("label", metadata.get("labels"))),
        **dict(_marks("annotation", metadata.get("annotations"))),
    }
    named = {f"__meta_kubernetes_{name}": str(value) for name, value in labels.items()}
    return {"targets": [str(address)], "labels": named}


def _marks(kind: str, marks: JsonObject | None) -> Iterator[tuple[str, str]]:
    for name, value in (marks or {}).items():
        yield f"pod_{kind}_{_meta(name)}", str(value)
        yield f"pod_{kind}present_{_meta(name)}", "true"


class Prometheus:
    """The process of one cluster. `start`, then `stop`; it is started again when it ends by itself."""

    def __init__(self, api: Api, state_dir: Path, cluster: str) -> None:
        self._api = api
        self._directory = state_dir / DIRECTORY
        self._cluster = cluster
        self._tasks = TaskGroup("prometheus")
        self._port = _free_port()
        self._pods: dict[tuple[str, str], dict[str, Any]] = {}
        self._changed = asyncio.Event()

    @staticmethod
    def missing() -> str:
        """What to install, or "" where there is a Prometheus."""
        return "" if shutil.which(BINARY) else "Prometheus (Debian's package `prometheus`)"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self, wanted: Wanted) -> None:
        """Write its files and wait until it answers. Raises TimeoutError."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        targets = self._directory / "targets.json"
        config = yaml.safe_dump(configuration(wanted, targets), sort_keys=False)
        (self._directory / "prometheus.yml").write_text(config, encoding="utf-8")
        self._tasks.start("pods", keep_running("prometheus pods", self._watch))
        self._tasks.start("targets", self._write_on_change(targets))
        self._tasks.start("process", keep_running("prometheus", self._run))
        async with asyncio.timeout(READY_SECONDS):
            while not await self._answers():  # noqa: ASYNC110 - another process: it tells nobody
                await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        """End the process."""
        await self._tasks.stop()

    async def _watch(self) -> None:
        self._pods.clear()
        async for kind, pod in self._api.watch("pods"):
            metadata = pod["metadata"]
            key = (str(metadata.get("namespace")), str(metadata["name"]))
            entry = None if kind == "DELETED" else target(pod)
            if entry is None:
                self._pods.pop(key, None)
            else:
                self._pods[key] = entry
            self._changed.set()

    async def _write_on_change(self, path: Path) -> None:
        while True:
            self._changed.clear()
            _replace(path, self._pods.values())
            await self._changed.wait()
            await asyncio.sleep(_GATHER_SECONDS)

    def _arguments(self) -> Sequence[str]:
        return (
            f"--config.file={self._directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--storage.tsdb.retention.time={RETENTION}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        )

    async def _run(self) -> None:
        environment = {"PATH": os.environ.get("PATH", os.defpath), CLUSTER_MARK: self._cluster}
        with (self._directory / "prometheus.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                BINARY,
                *self._arguments(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._directory,
            )
        try:
            code = await process.wait()
            _log.warning("prometheus ended with %d; see %s/prometheus.log", code, self._directory)
        finally:
            if process.returncode is None:
                process.kill()  # nothing of it is kept: there is nothing to write in order
                await process.wait()

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            writer.write(b"GET /-/ready HTTP/1.0\r\n\r\n")
            return b" 200 " in await reader.readline()
        except ConnectionError:
            return False
        finally:
            writer.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _replace(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Prometheus must never see half a file."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(list(entries)), encoding="utf-8")
    fresh.replace(path)
