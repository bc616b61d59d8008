"""A certificate authority for tests: signs what it is told to, for as long as it is told to."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "cluster.local"
CONTROLLER = f"spiffe://{TRUST_DOMAIN}/ns/smi-mesh-system/sa/smi-mesh-controller"


class Authority:
    """A self-signed root and what it signs."""

    def __init__(self, name: str = "test root") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        self._root = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def bundle(self) -> str:
        return self._root.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, request: str, uri: str, names: Sequence[str], seconds: float) -> tuple[str, str]:
        """Sign a PEM request; returns (PEM certificate, RFC 3339 end of validity)."""
        parsed = x509.load_pem_x509_csr(request.encode())
        assert parsed.is_signature_valid
        key = parsed.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self._issue(key, uri, names, seconds)

    def issue(self, uri: str, names: Sequence[str] = ()) -> tuple[str, str]:
        """A fresh key with a certificate; returns (PEM key, PEM certificate)."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, _ = self._issue(key.public_key(), uri, names, 3600)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return pem.decode(), certificate

    def server_context(self, folder: Path, uri: str, *, mutual: bool) -> ssl.SSLContext:
        """A server's context with a fresh certificate for `uri`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        file = folder / f"{uri.rsplit('/', 1)[-1]}-{id(self)}.pem"
        file.write_text("".join(self.issue(uri)))
        context.load_cert_chain(file)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.bundle)
        return context

    def _issue(
        self, key: ec.EllipticCurvePublicKey, uri: str, names: Sequence[str], seconds: float
    ) -> tuple[str, str]:
        now = datetime.datetime.now(datetime.UTC)
        end = now + datetime.timedelta(seconds=seconds)
        alternatives = [x509.UniformResourceIdentifier(uri), *(x509.DNSName(name) for name in names)]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), end.isoformat()
