"""Golden pairs hold: what each world compiles to is what is checked in (see golden.py to update)."""

from __future__ import annotations

import json

import pytest

from tests.controller.compile import golden


@pytest.mark.parametrize("behaviour", golden.behaviours())
def test_golden(behaviour: str) -> None:
    assert json.loads(golden.rendered(behaviour)) == json.loads(golden.recorded(behaviour) or "{}")
