"""Is the other end of a TLS connection the controller?

The mesh's own CA signs every workload, so a valid chain alone proves no particular name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataplane.core.peer import spiffe_id


class NotTheController(Exception):  # noqa: N818 - says what the peer is
    """The peer's certificate is valid but is not the controller's."""


def check_controller(certificate: Mapping[str, Any] | None, controller: str) -> None:
    """Raise NotTheController unless the peer proved to be `controller`."""
    found = spiffe_id(certificate)
    if found != controller:
        raise NotTheController(f"the peer is {found or 'nobody'}, expected {controller}")
