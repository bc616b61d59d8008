"""`python -m dataplane.control.keys`: make a private key and a signing request, print both, end.

A process of its own because `cryptography` would cost the sidecar about 10 MB for its whole life.
The key exists in this process and in the pipe to the sidecar, nowhere else. The request names
nobody: the controller takes the names from the token that comes with it.
"""

from __future__ import annotations

import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def make_key_and_request() -> tuple[bytes, bytes]:
    """A fresh EC P-256 key (PKCS #8) and a PKCS #10 request signed with it, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, request.public_bytes(Encoding.PEM)


def main() -> None:
    """Write the key, then the request."""
    for pem in make_key_and_request():
        sys.stdout.buffer.write(pem)


if __name__ == "__main__":
    main()
