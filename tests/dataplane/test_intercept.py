"""The redirect rules as text, and the command around them."""

from __future__ import annotations

import pytest

from dataplane.intercept import (
    INBOUND_CHAIN,
    JUMPS,
    OUTBOUND_CHAIN,
    Redirects,
    has_ipv6,
    ipv6_rules,
    main,
    redirects_from,
    rules,
)
from dataplane.settings import SettingsError

GOLDEN = """\
*nat
:SMI_MESH_INBOUND - [0:0]
:SMI_MESH_OUTBOUND - [0:0]
-A SMI_MESH_INBOUND -p tcp --dport 9000 -j RETURN
-A SMI_MESH_INBOUND -p tcp --dport 15008 -j RETURN
-A SMI_MESH_INBOUND -p tcp --dport 15020 -j RETURN
-A SMI_MESH_INBOUND -p tcp -j REDIRECT --to-ports 15006
-A SMI_MESH_OUTBOUND -m owner --gid-owner 1337 -j RETURN
-A SMI_MESH_OUTBOUND -o lo -j RETURN
-A SMI_MESH_OUTBOUND -d 127.0.0.0/8 -j RETURN
-A SMI_MESH_OUTBOUND -p tcp --dport 3306 -j RETURN
-A SMI_MESH_OUTBOUND -p tcp --dport 5432 -j RETURN
-A SMI_MESH_OUTBOUND -p tcp -j REDIRECT --to-ports 15001
-A PREROUTING -p tcp -j SMI_MESH_INBOUND
-A OUTPUT -p tcp -j SMI_MESH_OUTBOUND
COMMIT
"""

ENVIRON = {"SMI_MESH_EXCLUDE_INBOUND": "9000", "SMI_MESH_EXCLUDE_OUTBOUND": "5432, 3306"}


def test_printed_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print"], ENVIRON) == 0
    printed, ipv6 = capsys.readouterr().out.split("# for ip6tables-restore", 1)
    assert printed == GOLDEN
    assert ipv6.endswith("-A OUTPUT -j SMI_MESH_OUTBOUND\nCOMMIT\n")


def test_the_jumps_are_added_only_if_missing() -> None:
    redirects = redirects_from(ENVIRON)
    assert rules(redirects, JUMPS) == GOLDEN
    assert "-A PREROUTING" not in rules(redirects, JUMPS[1:])
    assert "-A OUTPUT" in rules(redirects, JUMPS[1:])
    assert "COMMIT" in rules(redirects, ())


def test_ports_come_from_the_environment() -> None:
    given = {"SMI_MESH_INBOUND_PORT": "1", "SMI_MESH_OUTBOUND_PORT": "2", "SMI_MESH_MESH_PORT": "3"}
    assert redirects_from(given) == Redirects(inbound_port=1, outbound_port=2, mesh_port=3)
    with pytest.raises(SettingsError, match=r"^SMI_MESH_EXCLUDE_INBOUND must"):
        redirects_from({"SMI_MESH_EXCLUDE_INBOUND": "80; rm"})


def test_wrong_use_and_bad_settings_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], {}) == 2
    assert "usage" in capsys.readouterr().err
    assert main([], {"SMI_MESH_EXCLUDE_INBOUND": "x"}) == 2
    assert "SMI_MESH_EXCLUDE_INBOUND" in capsys.readouterr().err


def test_a_missing_iptables_is_said_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main([], {}) == 1
    said = capsys.readouterr().err
    assert "iptables is not installed" in said
    assert "SMI_MESH_INTERCEPTION=explicit" in said


UDP = """\
*mangle
:SMI_MESH_INBOUND - [0:0]
:SMI_MESH_OUTBOUND - [0:0]
-A SMI_MESH_INBOUND -p udp -i lo -m mark --mark 0x539/0xfff -j TPROXY \
--on-port 15001 --tproxy-mark 0x539/0xfff
-A SMI_MESH_INBOUND -p udp -i lo -j RETURN
-A SMI_MESH_INBOUND -p udp -m conntrack --ctdir REPLY -j RETURN
-A SMI_MESH_INBOUND -p udp -m addrtype ! --dst-type LOCAL -j RETURN
-A SMI_MESH_INBOUND -p udp --dport 9000 -j RETURN
-A SMI_MESH_INBOUND -p udp -j TPROXY --on-port 15006
-A SMI_MESH_OUTBOUND -m owner --gid-owner 1337 -j RETURN
-A SMI_MESH_OUTBOUND -o lo -j RETURN
-A SMI_MESH_OUTBOUND -d 127.0.0.0/8 -j RETURN
-A SMI_MESH_OUTBOUND -m addrtype ! --dst-type UNICAST -j RETURN
-A SMI_MESH_OUTBOUND -p udp -m conntrack --ctdir REPLY -j RETURN
-A SMI_MESH_OUTBOUND -p udp --dport 53 -j RETURN
-A SMI_MESH_OUTBOUND -p udp --dport 3306 -j RETURN
-A SMI_MESH_OUTBOUND -p udp --dport 5432 -j RETURN
-A SMI_MESH_OUTBOUND -p udp -j MARK --set-xmark 0x539/0xfff
-A PREROUTING -p udp -j SMI_MESH_INBOUND
-A OUTPUT -p udp -j SMI_MESH_OUTBOUND
COMMIT
"""


def test_udp_has_rules_of_its_own() -> None:
    redirects = redirects_from({**ENVIRON, "SMI_MESH_UDP": "on"})
    assert rules(redirects) == GOLDEN + UDP
    assert "-A OUTPUT -p udp" not in rules(redirects, JUMPS, JUMPS[:1])
    with pytest.raises(SettingsError, match="SMI_MESH_UDP must be on or off"):
        redirects_from({"SMI_MESH_UDP": "yes"})


def test_ipv6_is_refused_both_ways_but_for_what_is_excluded() -> None:
    text = ipv6_rules(Redirects(exclude_inbound=frozenset({9000}), udp=True))
    inbound = [line for line in text.splitlines() if line.startswith(f"-A {INBOUND_CHAIN}")]
    outbound = [line for line in text.splitlines() if line.startswith(f"-A {OUTBOUND_CHAIN}")]
    assert inbound.index(f"-A {INBOUND_CHAIN} -p tcp --dport 9000 -j RETURN") < inbound.index(
        f"-A {INBOUND_CHAIN} -p tcp -j REJECT --reject-with tcp-reset"
    )
    assert outbound[0] == f"-A {OUTBOUND_CHAIN} -m owner --gid-owner 1337 -j RETURN"
    assert f"-A {OUTBOUND_CHAIN} -p udp --dport 53 -j RETURN" in outbound
    assert "-A INPUT -j SMI_MESH_INBOUND" in text
    assert "-A OUTPUT" not in ipv6_rules(Redirects(), [])


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ("", False),
        ("00000000000000000000000000000001 01 80 10 80       lo\n", False),
        ("fe800000000000000000000000000001 02 40 20 80     eth0\n", False),
        ("fd000000000000000000000000000001 02 40 00 80     eth0\n", True),
    ],
)
def test_only_routable_addresses_count(table: str, wanted: bool) -> None:
    assert has_ipv6(table) is wanted
