"""What the process asks of its C library, and how a log line looks."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys

from dataplane.process import JsonLines, resident_bytes


def test_glibc_takes_the_thresholds() -> None:
    code = "from dataplane.process import keep_read_buffers; print(keep_read_buffers())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "True"


def test_an_idle_sidecar_has_no_regular_expression_engine() -> None:
    # RE2 and the C++ library are 2.5 MB that only patterns need (docs/performance.md, "Memory at rest").
    code = (
        "import sys, dataplane.main, smi.policy.regex as regex\n"
        "before = 're2' in sys.modules\n"
        "regex.check_pattern('/a.*', 'here')\n"
        "print(before, 're2' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_memory_that_is_free_is_given_back() -> None:
    code = (
        "from dataplane.process import *\n"
        "keep_read_buffers()\n"
        "before = resident_bytes()\n"
        "blocks = [bytes(4000) for _ in range(10_000)]\n"
        "full = resident_bytes()\n"
        "last = blocks[-1]\n"  # behind which nothing is given back by itself
        "del blocks\n"
        "kept = resident_bytes()\n"
        "print(full - before, kept - before, give_back_memory(), resident_bytes() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    full, kept, gave, left = done.stdout.split()
    assert int(full) > 30e6
    assert int(kept) > 30e6, "the allocator gives it back by itself"
    assert gave == "True"
    assert int(left) < 10e6


def test_resident_memory_is_read() -> None:
    assert 5e6 < resident_bytes() < 5e9


def test_a_record_is_one_line_of_json() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.getLogger("dataplane.x").makeRecord(
            "dataplane.x", logging.ERROR, "f", 1, "%s\nand more", ("first",), sys.exc_info()
        )
    line = JsonLines().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "dataplane.x", "first\nand more")
    assert "ValueError: two" in entry["traceback"]
