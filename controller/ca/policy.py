"""What the CA issues and when: pure decisions on facts, with the clock as a parameter.

Knows no cryptography, no Secret, no clock. `issue.py` carries decisions out, `authority.py` keeps
the root in the cluster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from smi.names import ServiceIdentity, Workload, pod_dns_san

RENEW_AT: Final = 0.7
"""Part of a leaf's life after which it is renewed; proxies add jitter before it."""
ROOT_LIFE: Final = timedelta(days=3650)
ROOT_RENEW_AT: Final = 0.8
"""Part of a generated root's life after which its successor is introduced."""
BACKDATE: Final = timedelta(seconds=60)
"""Certificates hold from a little before now: clocks of nodes differ."""
MIN_LEAF: Final = timedelta(seconds=2)

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_ACCOUNT_PREFIX: Final = "system:serviceaccount:"


class RefusedError(ValueError):
    """The caller does not get a certificate; the message says why and may be shown to it."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a leaf certificate says about its holder (SPIFFE X.509-SVID §2: exactly one URI SAN)."""

    uri: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who the API server says a token belongs to (TokenReview `status`)."""

    username: str
    audiences: tuple[str, ...]
    pod: str | None
    """From `extra["authentication.kubernetes.io/pod-name"]`; None: not bound to a pod."""

    @property
    def namespace(self) -> str:
        """Of its service account; empty if it is none."""
        if not self.username.startswith(_ACCOUNT_PREFIX):
            return ""
        return self.username.removeprefix(_ACCOUNT_PREFIX).partition(":")[0]


def workload_names(
    caller: Caller, audience: str, trust_domain: str, workload: Workload | None = None
) -> Names:
    """The names a caller's certificate gets: from its token and its pod, never from its CSR.

    `workload` is what the pod is an instance of; nothing is allowed because of it.
    Raises RefusedError for a token of another audience, of no service account, or of no pod.
    """
    if audience not in caller.audiences:
        raise RefusedError(f"the token is not for audience {audience!r}")
    account, _, rest = caller.username.removeprefix(_ACCOUNT_PREFIX).partition(":")
    if not caller.username.startswith(_ACCOUNT_PREFIX) or not (
        _DNS_LABEL.fullmatch(account) and _DNS_NAME.fullmatch(rest)
    ):
        raise RefusedError(f"{caller.username!r} is not a service account")
    if caller.pod is None or not _DNS_NAME.fullmatch(caller.pod):
        raise RefusedError("the token is not bound to a pod")
    identity = ServiceIdentity(trust_domain, account, rest)
    return Names(identity.uri, (pod_dns_san(account, caller.pod), *(workload.dns_sans() if workload else ())))


def controller_names(
    trust_domain: str, namespace: str, name: str, cluster_domain: str, hosts: tuple[str, ...]
) -> Names:
    """The names of the controller's own certificate: its identity, its Service's names, other hosts."""
    from_service = (
        name,
        f"{name}.{namespace}",
        f"{name}.{namespace}.svc",
        f"{name}.{namespace}.svc.{cluster_domain}",
    )
    addresses = tuple(host for host in hosts if _is_address(host))
    others = tuple(host for host in hosts if host and not _is_address(host))
    return Names(
        ServiceIdentity(trust_domain, namespace, name).uri,
        tuple(dict.fromkeys((*from_service, *others))),
        tuple(dict.fromkeys(addresses)),
    )


def _is_address(host: str) -> bool:
    return ":" in host or (host.replace(".", "").isdigit() and host.count(".") == 3)


@dataclass(frozen=True, slots=True)
class Validity:
    not_before: datetime
    not_after: datetime


def leaf_validity(now: datetime, life: timedelta, issuer_end: datetime) -> Validity:
    """When a leaf issued now holds; never longer than its issuer. Raises RefusedError if that is nothing."""
    end = min(now + max(life, MIN_LEAF), issuer_end)
    if end - now < MIN_LEAF:
        raise RefusedError("the issuing certificate is about to expire; renew Secret smi-mesh-ca")
    return Validity(now - BACKDATE, end)


def renewal_time(now: datetime, end: datetime, chance: float) -> datetime:
    """When to renew a leaf issued now: at 70 % of its life, less up to a tenth by `chance` in [0, 1)."""
    return now + (end - now) * (RENEW_AT - 0.1 * chance)


# --- root rotation --------------------------------------------------------------------------------------


class Step(StrEnum):
    """The next step of a generated root's rotation."""

    KEEP = "keep"
    INTRODUCE = "introduce"
    """Make a successor and put it into the trust bundle; go on signing with the present root."""
    SWITCH = "switch"
    """Every proxy has seen the successor: sign with it, keep the old root in the bundle."""
    RETIRE = "retire"
    """Every leaf of the old root has expired: take it out of the bundle."""


@dataclass(frozen=True, slots=True)
class Roots:
    """What is known of the roots at one moment."""

    active: Validity
    generated: bool
    """False: given by the user, who rotates it; we only ever use what the Secret holds."""
    introduced: datetime | None = None
    """Since when a successor is in the bundle."""
    switched: datetime | None = None
    """Since when a predecessor is only in the bundle."""


@dataclass(frozen=True, slots=True)
class Decision:
    step: Step
    reason: str


def next_step(roots: Roots, now: datetime, leaf_life: timedelta) -> Decision:
    """The one thing to do now about the root. Overlap: two leaf lives each side of the switch.

    A proxy fetches the bundle with every renewal, at the latest after one leaf life; two is that
    and a margin for proxies that were cut off.
    """
    overlap = 2 * leaf_life
    if not roots.generated:
        return Decision(Step.KEEP, "the root was given by the user")
    if roots.introduced is not None:
        if now - roots.introduced >= overlap:
            return Decision(Step.SWITCH, "every proxy had two leaf lives to fetch the successor")
        return Decision(Step.KEEP, "proxies are fetching the successor")
    if roots.switched is not None:
        if now - roots.switched >= overlap:
            return Decision(Step.RETIRE, "no leaf of the former root is valid any more")
        return Decision(Step.KEEP, "leaves of the former root may still be valid")
    life = roots.active.not_after - roots.active.not_before
    if now >= roots.active.not_before + life * ROOT_RENEW_AT:
        return Decision(Step.INTRODUCE, f"{ROOT_RENEW_AT:.0%} of the root's life are over")
    return Decision(Step.KEEP, "the root is young enough")
