"""TrafficTargets and IdentityBindings → Rules (S20-S24, R1, R2, R9-R11, R14). The slow lane.

A Rule names its subjects by identity and by label selector, never by pod: pods come and go without
any Rule changing. Next station: `enforcement.py`, which meets the Rules with the pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.compile.routes import Routes
from controller.compile.world import World
from smi.api.hub import Subject
from smi.findings import Finding, ObjectRef, Reason, Severity
from smi.lower import (
    IDENTITY_BINDING,
    LoweredBinding,
    LoweredTarget,
    lower_identity_binding,
    lower_traffic_target,
)
from smi.names import NamespacedName, ServiceIdentity


@dataclass(frozen=True, slots=True)
class Selector:
    """Pods of one namespace by label (IdentityBinding `podLabelSelector`); no labels select all of them."""

    namespace: str
    labels: tuple[tuple[str, str], ...]

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.labels)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Who a TrafficTarget names as its sources or its destination: identities OR selected pods."""

    identities: frozenset[str] = frozenset()
    """SPIFFE ids."""
    selectors: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One TrafficTarget that grants something, with its subjects resolved."""

    lowered: LoweredTarget
    destination: Subjects
    sources: Subjects


@dataclass(frozen=True, slots=True)
class Access:
    rules: tuple[Rule, ...]
    """Sorted by the name of their TrafficTarget."""
    findings: tuple[Finding, ...]


Bindings = Mapping[NamespacedName, LoweredBinding]


def compile_access(world: World, routes: Routes) -> Access:
    """Lower every TrafficTarget and resolve whom it names."""
    findings: list[Finding] = []
    bindings = _bindings(world, findings)
    rules: list[Rule] = []
    for name in sorted(world.targets):
        target = world.targets[name]
        lowered, said = lower_traffic_target(target, routes.groups, routes.tcp, routes.udp)
        findings.extend(said)
        findings.extend(_missing(target.ref, target.destination, "spec.destination", bindings))
        for index, source in enumerate(target.sources):
            findings.extend(_missing(target.ref, source, f"spec.sources[{index}]", bindings))
        if lowered is not None:
            destination = _resolve([lowered.destination], bindings, world.trust_domain)
            sources = _resolve(lowered.sources, bindings, world.trust_domain)
            rules.append(Rule(lowered, destination, sources))
    return Access(tuple(rules), tuple(findings))


def _bindings(world: World, findings: list[Finding]) -> Bindings:
    found = {}
    for name, binding in world.identity_bindings.items():
        found[name], said = lower_identity_binding(binding, world.trust_domain)
        findings.extend(said)
    return found


def _missing(ref: ObjectRef, subject: Subject, where: str, bindings: Bindings) -> Iterable[Finding]:
    name = NamespacedName(subject.namespace, subject.name)
    if subject.kind == IDENTITY_BINDING and name not in bindings:
        message = (
            f"{where}.name: IdentityBinding {name} does not exist (or cannot be read); it stands for nobody"
        )
        yield Finding(ref, Severity.WARNING, Reason.IDENTITY_NOT_FOUND, message, f"{where}.name")


def _resolve(subjects: Iterable[Subject], bindings: Bindings, trust_domain: str) -> Subjects:
    """Everybody whom these subjects name; a missing IdentityBinding names nobody."""
    identities: set[str] = set()
    selectors: set[Selector] = set()
    for subject in subjects:
        if subject.kind != IDENTITY_BINDING:
            identities.add(ServiceIdentity(trust_domain, subject.namespace, subject.name).uri)
            continue
        binding = bindings.get(NamespacedName(subject.namespace, subject.name))
        if binding is not None:
            identities |= binding.identities
            if binding.pod_labels is not None:
                selectors.add(Selector(subject.namespace, binding.pod_labels))
    ordered = sorted(selectors, key=lambda selector: (selector.namespace, selector.labels))
    return Subjects(frozenset(identities), tuple(ordered))
