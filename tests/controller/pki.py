"""A CA, and pods' ends of a TLS connection to the controller."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from controller.ca.authority import Authority
from controller.ca.issue import load_pair
from controller.ca.policy import Names
from smi.names import ServiceIdentity, pod_dns_san
from tests.controller.kubeapi import StoredObjects

TRUST_DOMAIN = "cluster.local"


def now() -> datetime:
    return datetime.now(UTC)


async def opened_authority(
    api: StoredObjects | None = None, life: timedelta = timedelta(hours=1)
) -> Authority:
    authority = Authority(api or StoredObjects(), TRUST_DOMAIN, life, now)
    await authority.open()
    return authority


def pod_names(pod: str, account: str) -> Names:
    namespace, _, name = pod.partition("/")
    uri = ServiceIdentity(TRUST_DOMAIN, namespace, account).uri
    return Names(uri, (pod_dns_san(namespace, name),))


def client_context(authority: Authority, names: Names | None) -> ssl.SSLContext:
    """A client that trusts our CA and, with `names`, shows a certificate of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority.bundle)
    if names is not None:
        load_pair(context, authority.pair(names))
    return context
