"""A certificate authority for one run: signs the sidecars' requests and makes the peers' files."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Files:
    """Where a leaf, its key and the root are, as PEM."""

    certificate: Path
    key: Path
    root: Path


class Authority:
    """A self-signed P-256 root."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark root")])
        self._root = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def bundle(self) -> str:
        """The root as PEM."""
        return self._root.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, request: str, uri: str, names: Sequence[str]) -> tuple[str, str]:
        """Sign a PEM request; (PEM chain as the controller answers it, RFC 3339 end of validity)."""
        key = x509.load_pem_x509_csr(request.encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        certificate, end = self._leaf(key, uri, names)
        return certificate + self.bundle, end

    def issue(self, folder: Path, name: str, uri: str, names: Sequence[str] = ()) -> Files:
        """A fresh key and certificate in files."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, _ = self._leaf(key.public_key(), uri, names)
        files = Files(folder / f"{name}.crt", folder / f"{name}.key", folder / "root.crt")
        files.certificate.write_text(certificate)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        files.root.write_text(self.bundle)
        return files

    def _leaf(self, key: ec.EllipticCurvePublicKey, uri: str, names: Sequence[str]) -> tuple[str, str]:
        alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
        alternatives += [x509.DNSName(name) for name in names]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            self._builder(x509.Name([]), key)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM).decode(), made.not_valid_after_utc.isoformat()

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + _LIFE)
        )
