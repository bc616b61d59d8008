"""Keys and certificates: carries out what `policy` decided, with `cryptography`.

Knows X.509 and PEM; knows no Secret, no socket, no caller. ECDSA P-256 throughout. Private keys are
kept out of every repr and message.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.ca.policy import BACKDATE, Names, RefusedError, Validity


class MaterialError(ValueError):
    """A key or certificate that was given cannot be used; says what to give instead."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA certificate with its key: what leaves are signed with."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()
    """Intermediates to send with each leaf, the issuer's own certificate first; empty for a root."""

    @property
    def validity(self) -> Validity:
        return Validity(self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc)


@dataclass(frozen=True, slots=True)
class Leaf:
    """An issued certificate with what is sent behind it: the intermediates, or the root that signed it.

    A root need not be sent (RFC 8446 §4.4.2). But where nothing follows the leaf, OpenSSL looks for the
    chain in the trust store, verifies it and sends the root nevertheless: 80 µs of every full handshake.
    """

    chain_pem: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A leaf with its key, for the controller's own listeners."""

    leaf: Leaf
    key_pem: str = field(repr=False)


def pem(certificates: Sequence[x509.Certificate]) -> str:
    return "".join(found.public_bytes(Encoding.PEM).decode() for found in certificates)


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def new_root(now: datetime, life: timedelta, trust_domain: str) -> Issuer:
    """A fresh self-signed root for `trust_domain`."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "smi-mesh"),
            # The serial keeps successive roots apart where software looks issuers up by name.
            x509.NameAttribute(NameOID.COMMON_NAME, f"smi-mesh root {serial:x}"[:60]),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .serial_number(serial)
        .public_key(key.public_key())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]),
            critical=False,
        )
    )
    return Issuer(builder.sign(key, hashes.SHA256()), key)


def read_csr(text: str) -> ec.EllipticCurvePublicKey:
    """The public key of a PEM CSR that proves possession of its private key; all else in it is ignored.

    Raises RefusedError: not a CSR, not EC P-256, or a signature that does not fit.
    """
    try:
        csr = x509.load_pem_x509_csr(text.encode())
        valid = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm):
        raise RefusedError("'csr' must be a PEM certificate request (PKCS #10)") from None
    if not valid:
        raise RefusedError("the certificate request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RefusedError("the certificate request must hold an EC P-256 key")
    return key


def issue(issuer: Issuer, key: ec.EllipticCurvePublicKey, names: Names, validity: Validity) -> Leaf:
    """A leaf for `names`, good for both sides of mTLS (SPIFFE X.509-SVID §4)."""
    alternative: list[x509.GeneralName] = [x509.UniformResourceIdentifier(names.uri)]
    alternative += [x509.DNSName(name) for name in names.dns]
    alternative += [x509.IPAddress(ipaddress.ip_address(text)) for text in names.addresses]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .serial_number(x509.random_serial_number())
        .public_key(key)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
        # RFC 5280 §4.2.1.6: with an empty subject the alternative name is critical.
        .add_extension(x509.SubjectAlternativeName(alternative), critical=True)
    )
    certificate = builder.sign(issuer.key, hashes.SHA256())
    chain = issuer.chain or (issuer.certificate,)
    return Leaf(pem((certificate, *chain)), certificate.not_valid_after_utc)


def issue_pair(issuer: Issuer, names: Names, validity: Validity) -> KeyPair:
    """A fresh key and its leaf."""
    key = ec.generate_private_key(ec.SECP256R1())
    return KeyPair(issue(issuer, key.public_key(), names, validity), key_pem(key))


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


# --- reading what a Secret holds -----------------------------------------------------------------------


def read_issuer(
    certificates: str, private_key: str, where: str
) -> tuple[Issuer, tuple[x509.Certificate, ...]]:
    """An issuer from PEM: the CA that signs first, then the chain up to its root if it has one.

    Returns the issuer and the self-signed certificates found. Raises MaterialError naming `where`.
    """
    chain = read_certificates(certificates, f"{where}, tls.crt")
    key = _read_key(private_key, f"{where}, tls.key")
    first = chain[0]
    if first.public_key() != key.public_key():
        raise MaterialError(f"{where}: tls.key does not belong to the first certificate in tls.crt")
    try:
        constraints = first.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is None or not constraints.ca:
        raise MaterialError(
            f"{where}: the first certificate in tls.crt is not a CA (basicConstraints CA:TRUE)"
        )
    roots = tuple(found for found in chain if found.subject == found.issuer)
    intermediates = tuple(found for found in chain if found.subject != found.issuer)
    return Issuer(first, key, intermediates), roots


def read_certificates(text: str, where: str) -> tuple[x509.Certificate, ...]:
    """PEM certificates, at least one; raises MaterialError naming `where`."""
    try:
        return tuple(x509.load_pem_x509_certificates(text.encode()))
    except ValueError:
        raise MaterialError(f"{where}: expected PEM certificates") from None


def _read_key(text: str, where: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MaterialError(f"{where}: expected an unencrypted PEM private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MaterialError(f"{where}: expected an EC key (ECDSA P-256), got another kind")
    return key


# --- into OpenSSL ---------------------------------------------------------------------------------------


def load_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Give `context` a certificate and key; handshakes from now on use it, also on open listeners."""
    with _in_memory_file(pair.leaf.chain_pem + pair.key_pem) as path:
        context.load_cert_chain(path)


@contextmanager
def _in_memory_file(text: str) -> Iterator[str]:
    """A path that OpenSSL can read `text` from, without it touching a disk where the kernel allows."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("smi-mesh")
        try:
            os.write(descriptor, text.encode())
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile(buffering=0) as file:  # created with mode 0600
        file.write(text.encode())
        yield file.name
