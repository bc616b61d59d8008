"""The table of limits in the docs is the code's."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from dataplane.serve.limits import Limits

PAGE = Path(__file__).parents[3] / "docs" / "robustness.md"


def test_the_page_names_every_limit_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| \S.* \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert dict(rows) == {name: str(value) for name, value in asdict(Limits()).items()}
