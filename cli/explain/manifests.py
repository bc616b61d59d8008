"""Files → objects → the World that a cluster with just these objects would have.

Workloads get a stand-in pod each, ready and, where the injector would give it one, with a sidecar,
since without pods there is nobody to enforce anything. What had to be assumed is said.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from cli.errors import Failed
from cli.explain.documents import Complaint, Document, Place, read
from controller.admission.inject import Refused, Sidecar, inject
from controller.compile.read import CORE_KINDS, SMI_KINDS, from_kubernetes
from controller.compile.world import Reading, World
from smi.findings import ObjectRef
from smi.names import DEFAULT_CLUSTER_DOMAIN, DEFAULT_TRUST_DOMAIN, INJECT_LABEL, MESHED_LABEL

SUFFIXES: Final = (".yaml", ".yml", ".json")
STDIN: Final = "-"
MAX_BYTES: Final = 64 * 1024 * 1024
"""Of one file."""

_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Rollout": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Workload → where its pod template is."""
_SIDECAR: Final = Sidecar("", "", "", DEFAULT_TRUST_DOMAIN, DEFAULT_CLUSTER_DOMAIN, "")
_FIRST_ADDRESS: Final = IPv4Address("198.18.0.1")
"""Stand-in pods live in the benchmarking range (RFC 2544), which no cluster uses for pods."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """Everything that was read."""

    documents: tuple[Document, ...]
    complaints: tuple[Complaint, ...] = ()
    namespace: str = "default"
    """Where objects are that name no namespace."""


@dataclass(frozen=True, slots=True)
class Imagined:
    """A World made of manifests, and where its objects come from."""

    world: World
    places: Mapping[ObjectRef, Document] = field(repr=False)
    """The object that counts, by its name."""
    duplicates: tuple[tuple[ObjectRef, Document, Document], ...] = ()
    """(name, an object that is overwritten, the one that counts)."""
    stand_ins: Mapping[ObjectRef, ObjectRef] = field(default_factory=dict, repr=False)
    """Stand-in pod → the workload whose template it is made of."""
    refused: tuple[tuple[ObjectRef, str], ...] = ()
    """Workloads whose pods the injector refuses, and why."""
    assumed: tuple[str, ...] = ()


def load(paths: Sequence[str], namespace: str = "default") -> Manifests:
    """Read files, folders (recursively) and `-` (standard input). Raises Failed for what cannot be read."""
    documents: list[Document] = []
    complaints: list[Complaint] = []
    for name, text in _texts(paths):
        found, said = read(name, text)
        documents += found
        complaints += said
    return Manifests(tuple(documents), tuple(complaints), namespace)


def _texts(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path == STDIN:
            text = sys.stdin.read(MAX_BYTES + 1)
            if len(text) > MAX_BYTES:
                raise Failed(f"standard input: larger than {MAX_BYTES} characters")
            yield "<stdin>", text
            continue
        files = list(_files(Path(path)))
        if not files:
            raise Failed(f"{path}: no file in it ends in {', '.join(SUFFIXES)}")
        for file in files:
            yield file.as_posix(), _text(file)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():  # a link back up would never end
            yield from _files(entry)
        elif entry.suffix in SUFFIXES:
            yield entry


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise Failed(f"{file}: larger than {MAX_BYTES} bytes")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Failed(f"{file}: not UTF-8 text: {error.reason} at byte {error.start}") from None


def imagine(
    manifests: Manifests,
    *,
    trust_domain: str = DEFAULT_TRUST_DOMAIN,
    cluster_domain: str = DEFAULT_CLUSTER_DOMAIN,
) -> Imagined:
    """The World of a cluster to which exactly these objects were applied, the last of each name."""
    places: dict[ObjectRef, Document] = {}
    duplicates = []
    for document in manifests.documents:
        ref = _key(document.ref(manifests.namespace))
        if ref in places:
            duplicates.append((ref, places[ref], document))
        places[ref] = document
    pods = _Pods(places)
    readings = [*_readings(places), *pods.readings()]
    world = World.of(readings, trust_domain=trust_domain, cluster_domain=cluster_domain)
    return Imagined(
        world, places, tuple(duplicates), pods.stand_ins, tuple(pods.refused), tuple(pods.assumed())
    )


def _key(ref: ObjectRef) -> ObjectRef:
    """The name under which findings speak of it: with the group of its kind, whatever it says itself."""
    group = SMI_KINDS.get(ref.kind, ref.group)
    return ObjectRef(group, ref.kind, ref.namespace, ref.name)


def _readings(places: Mapping[ObjectRef, Document]) -> Iterator[Reading]:
    for ref, document in places.items():
        if ref.kind in SMI_KINDS or (ref.kind in CORE_KINDS and ref.kind != "Pod"):
            yield from_kubernetes(ref.kind, _in_namespace(document.body, ref))


def _in_namespace(body: Mapping[str, Any], ref: ObjectRef) -> Mapping[str, Any]:
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    return {**body, "metadata": {**metadata, "namespace": ref.namespace}}


class _Pods:
    """Pods as written, and a stand-in for each workload."""

    def __init__(self, places: Mapping[ObjectRef, Document]) -> None:
        self._places = places
        self.refused: list[tuple[ObjectRef, str]] = []
        self.stand_ins: dict[ObjectRef, ObjectRef] = {}
        self._unknown: set[str] = set()
        self._address = _FIRST_ADDRESS
        self._names: set[tuple[str, str]] = set()

    def readings(self) -> Iterator[Reading]:
        for ref, document in self._places.items():
            if ref.kind == "Pod" and ref.group == "":
                yield from_kubernetes("Pod", self._pod(ref, ref.name, document.body, {}))
        for ref, document in self._places.items():
            template = _template(ref.kind, document.body)
            if template is not None:
                owner = {"kind": ref.kind, "name": ref.name, "controller": True}
                asleep = _mapping(document.body.get("spec")).get("replicas") == 0
                name = self._free(ref)
                self.stand_ins[ObjectRef("", "Pod", ref.namespace, name)] = ref
                body = self._pod(ref, name, template, {"ownerReferences": [owner]}, asleep=asleep)
                yield from_kubernetes("Pod", body)

    def assumed(self) -> Iterator[str]:
        for name in sorted(self._unknown):
            yield f"namespace {name} is not among the manifests; its pods are taken to have a sidecar"

    def _free(self, ref: ObjectRef) -> str:
        name = f"{ref.name}-0"
        if (ref.namespace, name) in self._names:
            name = f"{ref.name}-{ref.kind.lower()}-0"
        self._names.add((ref.namespace, name))
        return name

    def _pod(
        self,
        ref: ObjectRef,
        name: str,
        template: Mapping[str, Any],
        extra: Mapping[str, Any],
        *,
        asleep: bool = False,
    ) -> Mapping[str, Any]:
        metadata, spec = _mapping(template.get("metadata")), _mapping(template.get("spec"))
        labels = {**_mapping(metadata.get("labels"))}
        status = template.get("status")
        if not _mapping(status).get("podIP"):  # not one out of a running cluster
            self._address += 1
            ready = {"type": "Ready", "status": "False" if asleep else "True"}
            status = {"podIP": str(self._address), "conditions": [ready]}
            if MESHED_LABEL not in labels and self._meshed(ref, metadata, spec):
                labels[MESHED_LABEL] = "true"
        about = {**metadata, **extra, "name": name, "namespace": ref.namespace, "labels": labels}
        return {"metadata": about, "spec": spec, "status": status}

    def _meshed(self, ref: ObjectRef, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
        """What the injector itself would say; the namespace's label is the webhook's own condition."""
        namespace = self._places.get(ObjectRef("", "Namespace", "", ref.namespace))
        if namespace is None:
            self._unknown.add(ref.namespace)
        elif not _joined(namespace.body):
            return False
        pod = {"metadata": dict(metadata), "spec": {"containers": [], **spec}}
        try:
            outcome = inject(pod, ref.namespace, _SIDECAR)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            # an API server refuses such a pod long before the injector sees it
            self.refused.append((ref, f"its pod template cannot be read: {error}"))
            return False
        if isinstance(outcome, Refused):
            self.refused.append((ref, outcome.message))
        return isinstance(outcome, list)


def _joined(namespace: Mapping[str, Any]) -> bool:
    labels = _mapping(_mapping(namespace.get("metadata")).get("labels"))
    return labels.get(INJECT_LABEL) == "enabled"


def _template(kind: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] = body
    for key in _TEMPLATES.get(kind, ()):
        found = _mapping(found.get(key))
    return found if found and found is not body else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def place_of(imagined: Imagined, ref: ObjectRef, path: str = "") -> Place | None:
    """Where a finding's field stands; None for an object that no file holds."""
    workload = imagined.stand_ins.get(ref)
    if workload is not None:
        template = ".".join(_TEMPLATES[workload.kind])
        return imagined.places[workload].place(f"{template}.{path}" if path else template)
    document = imagined.places.get(ref)
    return None if document is None else document.place(path)
