"""How the server proves itself to extension API servers and tells them who is asking.

Extension servers trust X-Remote-* headers from whoever holds a client certificate of the request-header CA.
They learn that CA from ConfigMap kube-system/extension-apiserver-authentication, as upstream.
"""

from __future__ import annotations

import json
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from localmesh.apiserver import pki
from localmesh.apiserver.call import User
from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.streams.tunnel import end_to_end

CLIENT_NAME = "front-proxy-client"
AUTHORITY_NAME = "localmesh-front-proxy-ca"
CONFIG_MAP = "extension-apiserver-authentication"
READER_ROLE = "extension-apiserver-authentication-reader"
NAMESPACE = "kube-system"
USER_HEADER, UID_HEADER, GROUP_HEADER = "X-Remote-User", "X-Remote-Uid", "X-Remote-Group"
EXTRA_PREFIX = "X-Remote-Extra-"

_OURS = ("x-remote-", "impersonate-")
_NOT_PASSED = frozenset({"authorization", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """The request-header CA's certificate and a client pair it signed, all PEM."""

    authority: bytes
    client: pki.KeyPair

    @classmethod
    def load_or_create(cls, directory: Path) -> FrontProxy:
        """With the authority kept in `directory`; the client pair is new at every start."""
        authority = pki.load_or_create_authority(directory, "front-proxy-ca", AUTHORITY_NAME)
        return cls(authority.certificate, pki.issue_client(authority, CLIENT_NAME, ()))

    @classmethod
    def ephemeral(cls) -> FrontProxy:
        """For a server that keeps nothing on disk."""
        with tempfile.TemporaryDirectory() as directory:
            return cls.load_or_create(Path(directory))

    def context(self, bundle: str | None, *, verify: bool) -> ssl.SSLContext:
        """A client context that presents the pair and trusts `bundle` (PEM; None: the system's roots).

        Raises ssl.SSLError for a bundle that holds no certificate.
        """
        if verify:
            context = ssl.create_default_context(cadata=bundle)
        else:  # without the system's roots, which take long to read
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "client.pem"
            pki.write_private(path, self.client.certificate + self.client.key)
            context.load_cert_chain(path)
        return context

    def config_map(self, client_authority: bytes) -> JsonObject:
        """What extension servers read: both CAs, the names they may trust and the headers' names."""
        return {
            "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE},
            "data": {
                "client-ca-file": client_authority.decode(),
                "requestheader-allowed-names": json.dumps([CLIENT_NAME]),
                "requestheader-client-ca-file": self.authority.decode(),
                "requestheader-extra-headers-prefix": json.dumps([EXTRA_PREFIX]),
                "requestheader-group-headers": json.dumps([GROUP_HEADER]),
                "requestheader-uid-headers": json.dumps([UID_HEADER]),
                "requestheader-username-headers": json.dumps([USER_HEADER]),
            },
        }


def reader_role() -> JsonObject:
    """The Role that lets an extension server read the ConfigMap."""
    rule = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [CONFIG_MAP],
        "verbs": ["get", "list", "watch"],
    }
    return {"metadata": {"name": READER_ROLE, "namespace": NAMESPACE}, "rules": [rule]}


def forwarded(headers: Iterable[tuple[str, str]], user: User, client: str) -> list[tuple[str, str]]:
    """Headers for the extension server: the client's without credentials and connection, plus who it is.

    Whatever the client said about identity itself is dropped, so that nobody can speak in another's name.
    """
    passed = [
        (name, value)
        for name, value in end_to_end(headers)
        if name.lower() not in _NOT_PASSED and not name.lower().startswith(_OURS)
    ]
    passed.append((USER_HEADER, user.name))
    if user.uid:
        passed.append((UID_HEADER, user.uid))
    passed += [(GROUP_HEADER, group) for group in user.groups]
    # Keys of extras are no header names by themselves (authentication.kubernetes.io/pod-name).
    passed += [
        (EXTRA_PREFIX + quote(key, safe="!#$&'*+-.^_`|~"), value)
        for key, values in user.extra.items()
        for value in values
    ]
    if client:
        passed.append(("X-Forwarded-For", client))
    return passed


def returned(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Headers of the extension server's answer that are the client's to see."""
    return end_to_end(headers.items())
