"""Remarks as a SARIF 2.1.0 log (OASIS sarif-v2.1.0-os): what code hosts and editors show beside the lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from cli.explain.remarks import RULES, Remark

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
VERSION: Final = "2.1.0"


def sarif(remarks: Sequence[Remark], version: str) -> dict[str, Any]:
    """One run of one tool; `version` is ours. Every rule is described, met or not."""
    rules = list(RULES)
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "smi-mesh lint",
                        "semanticVersion": version,
                        "rules": [{"id": rule, "shortDescription": {"text": RULES[rule]}} for rule in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(remark, rules.index(remark.rule)) for remark in remarks],
            }
        ],
    }


def _result(remark: Remark, index: int) -> dict[str, Any]:
    place = remark.place
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(place.file)},
            "region": {"startLine": place.line, "startColumn": place.column},
        }
    }
    if remark.subject:
        name = f"{remark.subject} {remark.field}".rstrip()
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "object"}]
    return {
        "ruleId": str(remark.rule),
        "ruleIndex": index,
        "level": str(remark.level),
        "message": {"text": f"{remark.subject}: {remark.message}" if remark.subject else remark.message},
        "locations": [location],
    }


def _uri(file: str) -> str:
    """A relative reference, or a file URI for an absolute path (SARIF §3.4.4, RFC 3986)."""
    path = PurePosixPath(file)
    return f"file://{quote(file)}" if path.is_absolute() else quote(file.removeprefix("./"))
