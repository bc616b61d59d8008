"""The mesh's CA at work: its root in Secret `smi-mesh-ca`, the trust bundle, and signing.

Creates the Secret where there is none, uses it where the user gave one, and carries a generated
root through `policy.next_step`. Knows the Secret's layout; knows no listener and no proxy.

Secret layout: `tls.crt` and `tls.key` (what is signed with; a chain may follow in `tls.crt`),
optional `ca.crt` (the roots to trust: put the old and the new one there to rotate your own CA), and
for a generated root `next.crt`/`next.key` (successor) or `previous.crt` (predecessor).
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from controller.ca import issue
from controller.ca.policy import ROOT_LIFE, Names, Roots, Step, leaf_validity, next_step
from controller.kube import Api, KubeError, Object
from controller.settings import CA_SECRET
from smi.names import SYSTEM_NAMESPACE

GENERATED: Final = "smi-mesh.io/generated"
INTRODUCED: Final = "smi-mesh.io/introduced"
SWITCHED: Final = "smi-mesh.io/switched"
_SECRETS: Final = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets"
_WHERE: Final = f"Secret {SYSTEM_NAMESPACE}/{CA_SECRET}"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Root:
    """One reading of the Secret."""

    issuer: issue.Issuer
    bundle: str
    """PEM of every root to trust."""
    roots: Roots
    secret: Object = field(repr=False)


class Authority:
    """Signs leaves and knows the trust bundle. `open` must have returned before anything else is used."""

    def __init__(
        self, api: Api, trust_domain: str, leaf_life: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._api = api
        self._trust_domain = trust_domain
        self._leaf_life = leaf_life
        self._clock = clock
        self._root: Root | None = None

    @property
    def bundle(self) -> str:
        """PEM of the roots that every mesh peer trusts."""
        return self._current.bundle

    @property
    def root_not_after(self) -> datetime:
        return self._current.issuer.validity.not_after

    def sign(self, key: ec.EllipticCurvePublicKey, names: Names) -> issue.Leaf:
        """A leaf for `names`. Raises RefusedError when the root is about to expire."""
        issuer = self._current.issuer
        validity = leaf_validity(self._clock(), self._leaf_life, issuer.validity.not_after)
        return issue.issue(issuer, key, names, validity)

    def pair(self, names: Names) -> issue.KeyPair:
        """A fresh key with its leaf, for one of the controller's own listeners."""
        issuer = self._current.issuer
        validity = leaf_validity(self._clock(), self._leaf_life, issuer.validity.not_after)
        return issue.issue_pair(issuer, names, validity)

    async def open(self) -> None:
        """Read the Secret, or create it. Raises KubeError, or MaterialError for an unusable Secret."""
        try:
            self._root = read_root(await self._api.get(f"{_SECRETS}/{CA_SECRET}"))
        except KubeError as error:
            if not error.absent:
                raise
            self._root = read_root(await self._create())

    async def refresh(self) -> bool:
        """Read the Secret again and take the next rotation step. True if issuer or bundle changed."""
        before = self._current
        await self.open()
        decision = next_step(self._current.roots, self._clock(), self._leaf_life)
        if decision.step is not Step.KEEP:
            _log.warning("root certificate: %s, because %s", decision.step, decision.reason)
            secret = _stepped(self._current.secret, decision.step, self._clock(), self._trust_domain)
            self._root = read_root(await self._api.replace(f"{_SECRETS}/{CA_SECRET}", secret))
        now = self._current
        return (now.bundle, now.issuer.certificate) != (before.bundle, before.issuer.certificate)

    @property
    def _current(self) -> Root:
        if self._root is None:
            raise RuntimeError("Authority is used before open() returned")
        return self._root

    async def _create(self) -> Object:
        root = issue.new_root(self._clock(), ROOT_LIFE, self._trust_domain)
        secret: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": CA_SECRET,
                "namespace": SYSTEM_NAMESPACE,
                "annotations": {GENERATED: "true"},
            },
            "type": "kubernetes.io/tls",
            "data": _encoded({"tls.crt": issue.pem((root.certificate,)), "tls.key": issue.key_pem(root.key)}),
        }
        try:
            return await self._api.create(_SECRETS, secret)
        except KubeError as error:
            if not error.conflict:
                raise
            return await self._api.get(f"{_SECRETS}/{CA_SECRET}")  # another replica was faster


def read_root(secret: Object) -> Root:
    """Understand a Secret. Raises MaterialError that says which entry to correct."""
    data = _decoded(secret.get("data") or {})
    issuer, found = issue.read_issuer(data.get("tls.crt", ""), data.get("tls.key", ""), _WHERE)
    trusted: list[x509.Certificate] = list(found)
    for entry in ("ca.crt", "next.crt", "previous.crt"):
        if data.get(entry):
            trusted += issue.read_certificates(data[entry], f"{_WHERE}, {entry}")
    anchors = tuple(dict.fromkeys(one for one in trusted if one.subject == one.issuer))
    if not anchors:
        raise issue.MaterialError(
            f"{_WHERE}: no self-signed root to trust; put it into ca.crt, or last into tls.crt"
        )
    annotations = (secret.get("metadata") or {}).get("annotations") or {}
    roots = Roots(
        active=issuer.validity,
        generated=annotations.get(GENERATED) == "true",
        introduced=_moment(annotations, INTRODUCED) if data.get("next.crt") else None,
        switched=_moment(annotations, SWITCHED) if data.get("previous.crt") else None,
    )
    return Root(issuer, issue.pem(anchors), roots, secret)


def _stepped(secret: Object, step: Step, now: datetime, trust_domain: str) -> Object:
    """The Secret after `step`; keeps resourceVersion, so that a concurrent step is a conflict."""
    data = _decoded(secret["data"])
    metadata = dict(secret["metadata"])
    annotations = dict(metadata.get("annotations") or {})
    if step is Step.INTRODUCE:
        root = issue.new_root(now, ROOT_LIFE, trust_domain)
        data["next.crt"], data["next.key"] = issue.pem((root.certificate,)), issue.key_pem(root.key)
        annotations[INTRODUCED] = now.isoformat()
    elif step is Step.SWITCH:
        data["previous.crt"] = data["tls.crt"]
        data["tls.crt"], data["tls.key"] = data.pop("next.crt"), data.pop("next.key")
        annotations.pop(INTRODUCED, None)
        annotations[SWITCHED] = now.isoformat()
    elif step is Step.RETIRE:
        data.pop("previous.crt", None)
        annotations.pop(SWITCHED, None)
    metadata["annotations"] = annotations
    return {**secret, "metadata": metadata, "data": _encoded(data)}


def _moment(annotations: Mapping[str, str], name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(annotations.get(name, ""))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise issue.MaterialError(f"{_WHERE}: annotation {name} must be an RFC 3339 time")
    return moment.astimezone(UTC)


def _decoded(data: Mapping[str, str]) -> dict[str, str]:
    try:
        return {name: base64.b64decode(text, validate=True).decode() for name, text in data.items()}
    except ValueError:
        raise issue.MaterialError(f"{_WHERE}: data must be base64 of PEM text") from None


def _encoded(data: Mapping[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}
