"""Certificates as OpenSSL and a real handshake see them."""

from __future__ import annotations

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from controller.ca.issue import (
    Issuer,
    MaterialError,
    issue_pair,
    key_pem,
    load_pair,
    new_root,
    pem,
    read_csr,
    read_issuer,
)
from controller.ca.policy import Names, RefusedError, Validity

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
NAMES = Names("spiffe://cluster.local/ns/shop/sa/web", ("web-1.shop.pod.smi-mesh.internal",), ("10.1.2.3",))


@pytest.fixture(scope="module")
def root() -> Issuer:
    return new_root(NOW, 24 * HOUR, "cluster.local")


def test_openssl_verifies_a_leaf_strictly(root: Issuer, tmp_path: Path) -> None:
    pair = issue_pair(root, NAMES, Validity(NOW - HOUR, NOW + HOUR))
    (tmp_path / "ca.pem").write_text(pem((root.certificate,)))
    (tmp_path / "leaf.pem").write_text(pair.leaf.chain_pem)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose"]
    for purpose in ("sslserver", "sslclient"):
        done = subprocess.run([*command, purpose, "leaf.pem"], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_root_follows_a_leaf_that_it_signed(root: Issuer) -> None:
    # Else OpenSSL searches and verifies its own chain in every handshake; see Leaf.
    pair = issue_pair(root, NAMES, Validity(NOW, NOW + HOUR))
    assert x509.load_pem_x509_certificates(pair.leaf.chain_pem.encode())[1:] == [root.certificate]


def test_a_leaf_is_a_spiffe_svid(root: Issuer) -> None:
    pair = issue_pair(root, NAMES, Validity(NOW, NOW + HOUR))
    leaf = x509.load_pem_x509_certificate(pair.leaf.chain_pem.encode())
    alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert alternative.critical
    assert alternative.value.get_values_for_type(x509.UniformResourceIdentifier) == [NAMES.uri]
    assert alternative.value.get_values_for_type(x509.DNSName) == list(NAMES.dns)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)


def test_two_sides_shake_hands_in_memory(root: Issuer) -> None:
    pair = issue_pair(root, NAMES, Validity(NOW - HOUR, NOW + HOUR))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=pem((root.certificate,)))
        load_pair(context, pair)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    pending = list(ends)
    for _ in range(10):
        for end in list(pending):
            try:
                end.do_handshake()
                pending.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not pending
    assert ("URI", NAMES.uri) in ends[1].getpeercert()["subjectAltName"]  # type: ignore[index] # verified above


def test_a_csr_counts_only_with_its_own_signature_and_a_p256_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    good = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    assert read_csr(good).public_numbers() == key.public_key().public_numbers()
    weak = builder.sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    other_curve = builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384())
    for csr in (weak, other_curve):
        with pytest.raises(RefusedError, match="P-256"):
            read_csr(csr.public_bytes(Encoding.PEM).decode())
    der = bytearray(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    with pytest.raises(RefusedError, match=r"its own key|PEM"):
        read_csr(broken)
    for text in ("", "no pem", good[: len(good) // 2]):
        with pytest.raises(RefusedError, match="PEM"):
            read_csr(text)


def test_what_a_secret_must_hold(root: Issuer) -> None:
    certificate, key = pem((root.certificate,)), key_pem(root.key)
    issuer, roots = read_issuer(certificate, key, "Secret x")
    assert issuer.certificate == root.certificate
    assert roots == (root.certificate,)
    assert issuer.chain == ()
    other = key_pem(ec.generate_private_key(ec.SECP256R1()))
    leaf = issue_pair(root, NAMES, Validity(NOW, NOW + HOUR))
    for bad_certificate, bad_key, why in (
        (certificate, other, "does not belong"),
        ("", key, "tls.crt: expected PEM"),
        (certificate, "", "tls.key: expected"),
        (leaf.leaf.chain_pem, leaf.key_pem, "not a CA"),
    ):
        with pytest.raises(MaterialError, match=why):
            read_issuer(bad_certificate, bad_key, "Secret x")


def test_no_key_in_any_repr(root: Issuer) -> None:
    pair = issue_pair(root, NAMES, Validity(NOW, NOW + HOUR))
    assert "PRIVATE" not in repr(pair)
    assert "PrivateKey" not in repr(root)
