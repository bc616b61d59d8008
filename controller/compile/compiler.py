"""World → Snapshot. Two lanes, put together here: policy (slow) and endpoints (fast).

Pure and deterministic: the order of objects means nothing, and an earlier Snapshot handed in only
saves work. Whatever one object holds, the others' configuration follows from the others alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from controller.compile.conditions import ObjectStatus, status_of
from controller.compile.endpoints import Endpoints, compile_endpoints
from controller.compile.enforcement import Enforcement, enforce
from controller.compile.fingerprint import fingerprint
from controller.compile.policy import Policy, compile_policy
from controller.compile.snapshot import MadeFrom, Snapshot
from controller.compile.world import World
from smi.findings import Finding, ObjectRef


def compile(world: World, previous: Snapshot | None = None) -> Snapshot:  # noqa: A001 - the architecture's own verb
    """Compile a World. With `previous` (any earlier Snapshot) only what changed is computed anew; the
    result is equal to that of `compile(world)`."""
    before = previous.made_from if previous is not None else None
    same_policy = (
        before is not None and world.policy_digest and before.world.policy_digest == world.policy_digest
    )
    policy = before.policy if before is not None and same_policy else compile_policy(world)
    endpoints = compile_endpoints(world, (before.world, before.endpoints) if before is not None else None)
    enforcement = enforce(policy.rules, policy.rates, world, endpoints)
    findings = tuple(sorted({*world.findings, *policy.findings, *enforcement.findings}))
    conditions = _conditions(world, policy, enforcement, findings)
    addresses = _addresses(policy, endpoints)
    return Snapshot(
        inbound=enforcement.inbound,
        destinations=policy.destinations,
        clusters=endpoints.clusters,
        breakers=policy.breakers,
        addresses=addresses,
        pods_by_ip=endpoints.pods_by_ip,
        findings=findings,
        conditions=conditions,
        digest=fingerprint(
            policy.digest,
            world.pods.values(),
            enforcement.inbound,
            endpoints,
            addresses,
            conditions,
            findings,
        ),
        made_from=MadeFrom(world, policy, endpoints),
    )


def _addresses(policy: Policy, endpoints: Endpoints) -> Mapping[str, str]:
    """ClusterIPs, and pod addresses under a headless root that is split (S4): the first of several."""
    headless = {
        address: split
        for address, keys in endpoints.headless.items()
        if (split := next((key for key in keys if policy.destinations[key].splits), None)) is not None
    }
    return {**headless, **policy.addresses}


def _conditions(
    world: World, policy: Policy, enforcement: Enforcement, findings: Iterable[Finding]
) -> Mapping[ObjectRef, ObjectStatus]:
    about: defaultdict[ObjectRef, list[Finding]] = defaultdict(list)
    for finding in findings:
        about[finding.ref].append(finding)
    nobody: frozenset[str] = frozenset()
    statuses = {}
    for known in world.smi_objects:
        concerned = {known.ref, *policy.users.get(known.ref, ())}
        pods = nobody.union(*(enforcement.concerns.get(ref, nobody) for ref in concerned))
        keys = nobody.union(*(policy.concerns.get(ref, nobody) for ref in concerned))
        statuses[known.ref] = status_of(known, about.get(known.ref, ()), pods, keys)
    return statuses
