"""What linting says: remarks with a place, a level and a rule, and what each rule is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cli.explain.documents import Place
from smi.findings import Reason


class Level(StrEnum):
    """SARIF 2.1.0 §3.27.10."""

    ERROR = "error"
    """It has no effect, or another than it says."""
    WARNING = "warning"
    NOTE = "note"


class Check(StrEnum):
    """Rules that only `lint` has; the rest are the mesh's own findings (`smi.findings.Reason`)."""

    NOT_YAML = "NotYaml"
    DUPLICATE = "Duplicate"
    NOT_INJECTABLE = "NotInjectable"
    PEERS_DIFFER = "PeersDiffer"
    UNREACHABLE = "Unreachable"
    UNUSED = "Unused"
    PORT_NOT_DECLARED = "PortNotDeclared"
    ACCOUNT_NOT_FOUND = "AccountNotFound"


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """One statement about one place. `subject` is `Kind namespace/name`, empty where there is no object."""

    place: Place
    level: Level
    rule: str
    message: str
    subject: str = ""
    field: str = ""


RULES: Final[Mapping[str, str]] = {
    Check.NOT_YAML: "The file cannot be read as YAML.",
    Check.DUPLICATE: "Two manifests have the same name; the later one overwrites the earlier.",
    Check.NOT_INJECTABLE: "The pod cannot get a sidecar as it is written.",
    Check.PEERS_DIFFER: "Another mesh reads this pattern differently: it has no end, or no start (S16).",
    Check.UNREACHABLE: "No request can ever meet it.",
    Check.UNUSED: "Nothing refers to it.",
    Check.PORT_NOT_DECLARED: "No pod it is about declares the port.",
    Check.ACCOUNT_NOT_FOUND: "The manifests hold no such ServiceAccount and no pod that runs as it.",
    Reason.INVALID: "The object, or a part of it, cannot be read.",
    Reason.INVALID_WEIGHT: "A weight is not a whole number of at least 0 (S3).",
    Reason.INVALID_PATTERN: "A regular expression is refused; its match is off (S18).",
    Reason.BACKEND_NOT_FOUND: "A backend Service does not exist (S6).",
    Reason.PORT_MISMATCH: "A backend lacks a port of the root Service and is left out there (S5).",
    Reason.ROOT_NOT_FOUND: "The root Service of a TrafficSplit does not exist.",
    Reason.ALL_WEIGHTS_ZERO: "Every weight is 0 (S8).",
    Reason.ROOT_AMONG_BACKENDS: "The root is its own backend: it means the root's own endpoints (S10).",
    Reason.CONFLICTED: "An older TrafficSplit already takes all traffic of this root (S11).",
    Reason.ROUTE_NOT_FOUND: "A route object that is referred to does not exist (S22).",
    Reason.MATCH_NOT_FOUND: "A match that is referred to is not in its group (S22).",
    Reason.NO_RULES: "A TrafficTarget without rules allows nothing (S22).",
    Reason.NO_SOURCES: "A TrafficTarget without sources allows nobody (S22).",
    Reason.WRONG_NAMESPACE: "A TrafficTarget outside its destination's namespace grants nothing (S23).",
    Reason.UNKNOWN_KIND: "A reference names a kind that the mesh does not know there.",
    Reason.IDENTITY_NOT_FOUND: "An IdentityBinding that is referred to does not exist.",
    Reason.FOREIGN_IDENTITY: "An IdentityBinding names an identity of another namespace (R11).",
    Reason.SCHEMES_OVERLAP: "podLabelSelector and serviceAccount in one IdentityBinding: both count (R11).",
    Reason.METHOD_CASE: "A method is read in upper case (R7).",
    Reason.TOP_LEVEL_MATCHES: "`matches` stands at top level; it is honoured (S2).",
    Reason.SERVICE_PORT_AS_POD_PORT: "A route names a Service's port where the pod's is meant (R1).",
    Reason.UNKNOWN_SETTING: "A setting has a value that is not one of the documented ones.",
    Reason.INVALID_LIMIT: "A part of a Service's annotation about limits has no effect (R15, R16).",
    Reason.PORT_NAME: "A Service's TCP port has a name that begins with udp, which means nothing there.",
}
"""Rule → what it is about, in one sentence."""
