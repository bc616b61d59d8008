"""A denial's id leads back to who was refused what, without a log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.explain import denials
from cli.explain.denials import Found, TooManyError, find_denial, misses
from cli.explain.documents import read
from cli.explain.manifests import Manifests, imagine
from cli.main import main
from controller.compile.compiler import compile as compile_world
from controller.compile.snapshot import Snapshot
from smi.policy.access import Denial, DenialReason, deny_without_config
from tests.cli.explain.test_explain import SHOP, V2, WRITE, ask, only, request
from tests.cli.explain.test_lint import ITEMS, READ, group, target, tcp

WEB = "spiffe://cluster.local/ns/shop/sa/web"
API = "spiffe://cluster.local/ns/shop/sa/api"


def snapshot_of(text: str) -> Snapshot:
    documents, complaints = read("m.yaml", text)
    assert not complaints
    return compile_world(imagine(Manifests(tuple(documents))).world)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ("", DenialReason.NO_TRAFFIC_TARGET),
        (target(ITEMS, source="other"), DenialReason.SOURCE_NOT_ALLOWED),
        (tcp(9) + target("[{kind: TCPRoute, name: ports}]"), DenialReason.PORT_NOT_ALLOWED),
        (group(READ) + target(ITEMS), DenialReason.ROUTE_NOT_ALLOWED),
    ],
)
def test_every_denial_is_found_by_its_id(rules: str, reason: DenialReason) -> None:
    text = SHOP + V2 + rules
    denial = only(ask(text, request("PUT")))
    assert isinstance(denial, Denial)
    assert find_denial(snapshot_of(text), denial.id) == Found(reason, WEB, API, 8080)


def test_denials_without_a_caller_or_a_configuration_are_found() -> None:
    bare = SHOP.replace("{template: {spec: {serviceAccountName: web",
                        "{template: {metadata: {labels: {smi-mesh.io/inject: disabled}}, spec: "
                        "{serviceAccountName: web")  # fmt: skip
    denial = only(ask(bare, request()))
    assert isinstance(denial, Denial)
    snapshot = snapshot_of(bare)
    assert find_denial(snapshot, denial.id) == Found(DenialReason.NO_IDENTITY, "", API, 8080)
    early = deny_without_config(None, 8080)
    assert find_denial(snapshot, early.id) == Found(DenialReason.NO_CONFIG, "", "", 8080)


def test_without_the_request_it_says_what_would_have_been_allowed() -> None:
    snapshot = snapshot_of(
        SHOP + group(READ, WRITE) + target(ITEMS) + target(ITEMS, source="o", name="other")
    )
    found = Found(DenialReason.ROUTE_NOT_ALLOWED, WEB, API, 8080)
    assert [(miss.target.name, miss.text) for miss in misses(snapshot, found, None)] == [
        ("web-to-api", "the request met none of read (GET /items$), write (POST /items$ x-role: ^admin$)"),
        ("other", f"{WEB} is not among its sources"),
    ]
    (mine, _) = misses(snapshot, found, request("POST"))
    assert mine.text.startswith("header x-role, asked for by match write")


def test_no_denial_and_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = snapshot_of(SHOP)
    assert find_denial(snapshot, "0" * 12) is None
    monkeypatch.setattr(denials, "MAX_GUESSES", 3)
    with pytest.raises(TooManyError, match="first 3 denials"):
        find_denial(snapshot, "0" * 12)


def test_the_command(tmp_path: Path) -> None:
    text = SHOP + group(READ) + target(ITEMS)
    (tmp_path / "m.yaml").write_text(text)
    denial = only(ask(text, request("PUT")))
    assert isinstance(denial, Denial)
    command = ["explain", "-f", str(tmp_path), "--denial", f"id={denial.id}"]
    said = CliRunner().invoke(main, command)
    assert said.stdout.splitlines() == [
        f"denial {denial.id}: route-not-allowed",
        f"  caller       {WEB}",
        f"  destination  {API}, port 8080",
        "  TrafficTarget shop/web-to-api: the request met none of read (GET /items$)",
    ]
    document = json.loads(CliRunner().invoke(main, [*command, "-o", "json", "PUT", "/items"]).stdout)
    assert (document["reason"], document["port"]) == ("route-not-allowed", 8080)
    assert document["misses"][0]["miss"].startswith("method PUT is not in match read")
    unknown = CliRunner().invoke(main, ["explain", "-f", str(tmp_path), "--denial", "f" * 12])
    assert (unknown.exit_code, "has the id ffffffffffff" in unknown.stderr) == (6, True)
    for text in ("x" * 12, "", "0123456789abc"):
        wrong = CliRunner().invoke(main, ["explain", "-f", str(tmp_path), "--denial", text])
        assert (wrong.exit_code, "12 hexadecimal" in wrong.stderr) == (2, True)
    both = CliRunner().invoke(main, [*command, "--from", "web.shop"])
    assert (both.exit_code, "or --denial" in both.stderr) == (2, True)
