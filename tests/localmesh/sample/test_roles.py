"""The sample shop's answers, and that a role starts as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from conformance.app.http1 import Request
from conformance.app.settings import SettingsError
from localmesh.sample.__main__ import read_role
from localmesh.sample.roles import Ledger, Role, Shop


@pytest.mark.parametrize(
    ("method", "target", "status", "field"),
    [
        ("GET", "/items", 200, "items"),
        ("GET", "/items?page=1", 200, "items"),
        ("POST", "/items", 201, "added"),
        ("GET", "/admin", 200, "secret"),
        ("GET", "/else", 404, "path"),
    ],
)
async def test_the_shop_answers(method: str, target: str, status: int, field: str) -> None:
    response = await Shop("api-v1", "api-v1-x")(Request(method, target))
    assert response.status == status
    assert json.loads(response.body)["service"] == "api-v1"
    assert field in json.loads(response.body)
    assert response.header("x-served-by") == "api-v1"


def test_the_ledger_keeps_rows_and_is_bounded() -> None:
    ledger = Ledger("db")
    assert ledger("GET lamp") == "db 1"
    assert ledger("GET nothing") == "db (nothing)"
    assert ledger("PUT sofa 4 seats") == "db ok"
    assert ledger("get sofa") == "db 4 seats"
    assert ledger("COUNT") == "db 4"
    for number in range(Ledger.LIMIT):
        ledger(f"PUT k{number} v")
    assert ledger("PUT one-more v") == "db error: full"
    assert ledger("COUNT") == f"db {Ledger.LIMIT}"
    assert "expected" in str(ledger("DROP TABLE"))
    assert ledger("QUIT") is None


def test_the_role_is_checked() -> None:
    assert read_role({"ROLE": "db"}) is Role.DB
    with pytest.raises(SettingsError, match="web, api, db, stranger"):
        read_role({"ROLE": "king"})


def test_a_role_that_does_not_exist_ends_with_a_message() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "localmesh.sample"],
        env={**os.environ, "ROLE": "king"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "ROLE='king': expected one of web, api, db, stranger\n"
