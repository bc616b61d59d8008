"""Golden pairs: `tests/golden/<behaviour>/world.yaml` in, `snapshot.json` out.

A reviewer sees a change of meaning as a diff of `snapshot.json`. To accept one, say so:
`python -m tests.controller.compile.golden --update [behaviour …]`.
"""

# ruff: noqa: T201 - a command prints
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from controller.compile.conditions import ObjectStatus
from controller.compile.snapshot import Snapshot
from smi.policy.codec import encode_breaker, encode_cluster, encode_destination, encode_inbound
from tests.controller.compile.build import snapshot_of

GOLDEN = Path(__file__).parents[2] / "golden"


def behaviours() -> list[str]:
    return sorted(path.parent.name for path in GOLDEN.glob("*/world.yaml"))


def rendered(behaviour: str) -> str:
    """The snapshot of a behaviour's world as text, as it is to stand in its file."""
    text = (GOLDEN / behaviour / "world.yaml").read_text(encoding="utf-8")
    snapshot = snapshot_of(*(obj for obj in yaml.safe_load_all(text) if obj is not None))
    return json.dumps(picture(snapshot), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def recorded(behaviour: str) -> str:
    path = GOLDEN / behaviour / "snapshot.json"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def picture(snapshot: Snapshot) -> dict[str, Any]:
    breakers = {key: encode_breaker(breaker) for key, breaker in snapshot.breakers.items()}
    return {
        **({"breakers": breakers} if breakers else {}),
        "inbound": {pod: encode_inbound(inbound) for pod, inbound in snapshot.inbound.items()},
        "destinations": {key: encode_destination(known) for key, known in snapshot.destinations.items()},
        "clusters": {key: encode_cluster(cluster) for key, cluster in snapshot.clusters.items()},
        "addresses": dict(snapshot.addresses),
        "findings": [
            f"{finding.ref}: {finding.severity} {finding.reason} ({finding.field})"
            for finding in snapshot.findings
        ],
        "status": {str(ref): _status(status) for ref, status in snapshot.conditions.items()},
    }


def _status(status: ObjectStatus) -> dict[str, Any]:
    conditions = {known.type: f"{known.status}: {known.reason}" for known in status.conditions}
    return {**conditions, "pods": sorted(status.pods), "destinations": sorted(status.destinations)}


def main(arguments: list[str]) -> int:
    update = "--update" in arguments
    chosen = [name for name in arguments if name != "--update"] or behaviours()
    changed = [name for name in chosen if rendered(name) != recorded(name)]
    for name in changed:
        print(f"{'updated' if update else 'differs'}: {name}")
        if update:
            (GOLDEN / name / "snapshot.json").write_text(rendered(name), encoding="utf-8")
    return 1 if changed and not update else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
