"""Ids are unique within a process and between processes, and look like any other."""

from __future__ import annotations

import os
import re

from dataplane.core.request_ids import RequestIds


def test_ids() -> None:
    ids = [RequestIds(os.urandom(16)), RequestIds(os.urandom(16)), RequestIds(b"\xff" * 16)]
    made = [one.next() for one in ids for _ in range(1000)]
    assert len(set(made)) == 3000
    assert all(re.fullmatch(rb"[0-9a-f]{32}", one) for one in made)
