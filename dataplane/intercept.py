"""`python -m dataplane.intercept`: redirect a pod's traffic into its sidecar, then end.

Runs as an init container with NET_ADMIN in the pod's network namespace. Running it again leaves the
same rules. What it must not do: touch rules it did not make, or any table but `nat`, `mangle` and
IPv6's `filter`.

Inbound, everything but the mesh port, the admin port and the excluded ports goes to the inbound
listener; so a caller cannot reach the outbound listener from outside. Outbound, everything goes to
the outbound listener except what the sidecar itself sends (by its group), what stays in the pod and
the excluded ports.

UDP has no redirect that tells where a datagram was going, so it is taken by TPROXY: outbound
datagrams are marked, routed to the loopback device by their mark and handed to the outbound
listener there; inbound ones are handed to the inbound listener. Left alone besides the above: DNS
(port 53, outbound), multicast and broadcast, and every answer to what conntrack has seen (of DNS
servers, of the sidecar's own peers, of an excluded port).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataplane.settings import SettingsError, port, port_list, switch
from smi import names

INBOUND_CHAIN: Final = "SMI_MESH_INBOUND"
OUTBOUND_CHAIN: Final = "SMI_MESH_OUTBOUND"
_SECONDS: Final = 30
_LOCK_SECONDS: Final = "10"


class InterceptError(Exception):
    """The rules could not be set; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Redirects:
    """What goes where. Ports are the sidecar's listeners; excluded ports are left alone."""

    inbound_port: int = names.INBOUND_PORT
    outbound_port: int = names.OUTBOUND_PORT
    mesh_port: int = names.MESH_PORT
    admin_port: int = names.ADMIN_PORT
    group: int = names.PROXY_ID
    exclude_inbound: frozenset[int] = frozenset()
    exclude_outbound: frozenset[int] = frozenset()
    udp: bool = False


MARK: Final = "0x539/0xfff"
"""Mark (and mask) of outbound datagrams on their way to the loopback device."""
TABLE: Final = "1337"
"""Routing table in which everything is local."""
_DNS: Final = 53
JUMPS: Final = (("PREROUTING", INBOUND_CHAIN), ("OUTPUT", OUTBOUND_CHAIN))
"""(built-in chain, our chain): the only two rules outside our own chains."""
IPV6_JUMPS: Final = (("INPUT", INBOUND_CHAIN), ("OUTPUT", OUTBOUND_CHAIN))
_IF_INET6: Final = Path("/proc/net/if_inet6")
_GLOBAL_SCOPE: Final = "00"
"""IPV6_ADDR scope of addresses that others can route to, unique local ones included."""


def redirects_from(environ: Mapping[str, str]) -> Redirects:
    """Read the environment the injector writes; raises SettingsError."""
    return Redirects(
        inbound_port=port(environ, "SMI_MESH_INBOUND_PORT", names.INBOUND_PORT),
        outbound_port=port(environ, "SMI_MESH_OUTBOUND_PORT", names.OUTBOUND_PORT),
        mesh_port=port(environ, "SMI_MESH_MESH_PORT", names.MESH_PORT),
        admin_port=port(environ, "SMI_MESH_ADMIN_PORT", names.ADMIN_PORT),
        exclude_inbound=port_list(environ, "SMI_MESH_EXCLUDE_INBOUND"),
        exclude_outbound=port_list(environ, "SMI_MESH_EXCLUDE_OUTBOUND"),
        udp=switch(environ, "SMI_MESH_UDP"),
    )


def rules(
    redirects: Redirects,
    missing_jumps: Sequence[tuple[str, str]] = JUMPS,
    missing_udp_jumps: Sequence[tuple[str, str]] = JUMPS,
) -> str:
    """The rules as input for `iptables-restore --noflush`.

    Declaring our chains there empties them, so only the jumps into them need to be known missing.
    """
    spared = sorted({redirects.mesh_port, redirects.admin_port} | redirects.exclude_inbound)
    lines = ["*nat", f":{INBOUND_CHAIN} - [0:0]", f":{OUTBOUND_CHAIN} - [0:0]"]
    lines += [f"-A {INBOUND_CHAIN} -p tcp --dport {spare} -j RETURN" for spare in spared]
    lines += [
        f"-A {INBOUND_CHAIN} -p tcp -j REDIRECT --to-ports {redirects.inbound_port}",
        f"-A {OUTBOUND_CHAIN} -m owner --gid-owner {redirects.group} -j RETURN",
        f"-A {OUTBOUND_CHAIN} -o lo -j RETURN",
        f"-A {OUTBOUND_CHAIN} -d 127.0.0.0/8 -j RETURN",
    ]
    spared = sorted(redirects.exclude_outbound)
    lines += [f"-A {OUTBOUND_CHAIN} -p tcp --dport {spare} -j RETURN" for spare in spared]
    lines += [f"-A {OUTBOUND_CHAIN} -p tcp -j REDIRECT --to-ports {redirects.outbound_port}"]
    lines += [f"-A {chain} -p tcp -j {ours}" for chain, ours in missing_jumps]
    lines.append("COMMIT")
    if redirects.udp:
        lines += _udp_rules(redirects, missing_udp_jumps)
    return "\n".join([*lines, ""])


def _udp_rules(redirects: Redirects, missing_jumps: Sequence[tuple[str, str]]) -> list[str]:
    lines = ["*mangle", f":{INBOUND_CHAIN} - [0:0]", f":{OUTBOUND_CHAIN} - [0:0]"]
    marked = f"-A {INBOUND_CHAIN} -p udp -i lo -m mark --mark {MARK} -j TPROXY"
    lines += [
        f"{marked} --on-port {redirects.outbound_port} --tproxy-mark {MARK}",
        f"-A {INBOUND_CHAIN} -p udp -i lo -j RETURN",
        f"-A {INBOUND_CHAIN} -p udp -m conntrack --ctdir REPLY -j RETURN",
        f"-A {INBOUND_CHAIN} -p udp -m addrtype ! --dst-type LOCAL -j RETURN",
    ]
    spared = sorted(redirects.exclude_inbound)
    lines += [f"-A {INBOUND_CHAIN} -p udp --dport {spare} -j RETURN" for spare in spared]
    lines += [
        f"-A {INBOUND_CHAIN} -p udp -j TPROXY --on-port {redirects.inbound_port}",
        f"-A {OUTBOUND_CHAIN} -m owner --gid-owner {redirects.group} -j RETURN",
        f"-A {OUTBOUND_CHAIN} -o lo -j RETURN",
        f"-A {OUTBOUND_CHAIN} -d 127.0.0.0/8 -j RETURN",
        f"-A {OUTBOUND_CHAIN} -m addrtype ! --dst-type UNICAST -j RETURN",
        f"-A {OUTBOUND_CHAIN} -p udp -m conntrack --ctdir REPLY -j RETURN",
    ]
    spared = sorted({_DNS} | redirects.exclude_outbound)
    lines += [f"-A {OUTBOUND_CHAIN} -p udp --dport {spare} -j RETURN" for spare in spared]
    lines += [f"-A {OUTBOUND_CHAIN} -p udp -j MARK --set-xmark {MARK}"]
    lines += [f"-A {chain} -p udp -j {ours}" for chain, ours in missing_jumps]
    return [*lines, "COMMIT"]


def ipv6_rules(redirects: Redirects, missing_jumps: Sequence[tuple[str, str]] = IPV6_JUMPS) -> str:
    """The rules that refuse IPv6, as input for `ip6tables-restore --noflush`."""
    protocols = ("tcp", "udp") if redirects.udp else ("tcp",)
    refusal = {"tcp": "tcp-reset", "udp": "icmp6-port-unreachable"}
    lines = ["*filter", f":{INBOUND_CHAIN} - [0:0]", f":{OUTBOUND_CHAIN} - [0:0]"]
    for chain, device, excluded in (
        (INBOUND_CHAIN, "-i lo", redirects.exclude_inbound),
        (OUTBOUND_CHAIN, "-o lo", redirects.exclude_outbound | {_DNS}),
    ):
        if chain == OUTBOUND_CHAIN:
            lines.append(f"-A {chain} -m owner --gid-owner {redirects.group} -j RETURN")
        lines += [
            f"-A {chain} {device} -j RETURN",
            f"-A {chain} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
        ]
        for protocol in protocols:
            lines += [f"-A {chain} -p {protocol} --dport {spare} -j RETURN" for spare in sorted(excluded)]
            lines.append(f"-A {chain} -p {protocol} -j REJECT --reject-with {refusal[protocol]}")
    lines += [f"-A {chain} -j {ours}" for chain, ours in missing_jumps]
    return "\n".join([*lines, "COMMIT", ""])


def has_ipv6(addresses: str) -> bool:
    """Whether `/proc/net/if_inet6` shows an address of global scope outside the loopback device."""
    rows = (line.split() for line in addresses.splitlines())
    return any(len(row) == 6 and row[3] == _GLOBAL_SCOPE and row[5] != "lo" for row in rows)


def _refuse_ipv6(redirects: Redirects) -> None:
    missing = [jump for jump in IPV6_JUMPS if not _has_jump("filter", None, *jump, program="ip6tables")]
    command = ["ip6tables-restore", "--noflush", "-w", _LOCK_SECONDS]
    done = _run(command, ipv6_rules(redirects, missing))
    if done.returncode != 0:
        raise InterceptError(_complaint("ip6tables-restore", done))


def intercept(redirects: Redirects) -> None:
    """Set the rules in this network namespace. Raises InterceptError."""
    missing = [jump for jump in JUMPS if not _has_jump("nat", "tcp", *jump)]
    missing_udp = [jump for jump in JUMPS if redirects.udp and not _has_jump("mangle", "udp", *jump)]
    if redirects.udp:
        _route_marked()
    text = rules(redirects, missing, missing_udp)
    done = _run(["iptables-restore", "--noflush", "-w", _LOCK_SECONDS], text)
    if done.returncode != 0:
        raise InterceptError(_complaint("iptables-restore", done))
    if has_ipv6(_addresses()):
        _refuse_ipv6(redirects)


def _addresses() -> str:
    try:
        return _IF_INET6.read_text(encoding="ascii")
    except FileNotFoundError:
        return ""  # a kernel without IPv6


def _has_jump(table: str, protocol: str | None, chain: str, ours: str, *, program: str = "iptables") -> bool:
    """Whether the jump is there. A chain of ours that does not exist yet is reported as an error too."""
    match = [] if protocol is None else ["-p", protocol]
    command = [program, "-w", _LOCK_SECONDS, "-t", table, "-C", chain, *match, "-j", ours]
    return _run(command, "").returncode == 0


def _route_marked() -> None:
    """Have marked packets delivered here, wherever they are addressed to."""
    rule = ["fwmark", MARK, "lookup", TABLE]
    while _run(["ip", "-4", "rule", "del", *rule], "").returncode == 0:
        pass  # left by an earlier run
    for command in (
        ["ip", "-4", "route", "replace", "local", "0.0.0.0/0", "dev", "lo", "table", TABLE],
        ["ip", "-4", "rule", "add", *rule],
    ):
        done = _run(command, "")
        if done.returncode != 0:
            raise InterceptError(_complaint(" ".join(command), done))


def _run(command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - a fixed command; what varies are checked port numbers
            command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise InterceptError(
            f"{command[0]} is not installed: the proxy image must contain iptables and iproute2, "
            "or set SMI_MESH_INTERCEPTION=explicit"
        ) from None
    except subprocess.TimeoutExpired:
        raise InterceptError(f"{command[0]} did not end within {_SECONDS} s") from None


def _complaint(program: str, done: subprocess.CompletedProcess[str]) -> str:
    said = done.stderr.strip()[:500]
    hint = ""
    if "ermission denied" in said or "not permitted" in said:
        hint = "; the init container needs the capability NET_ADMIN and uid 0"
    elif "TPROXY" in said or "MARK" in said or "addrtype" in said:
        hint = "; UDP needs the kernel's xt_TPROXY, xt_mark and xt_addrtype; SMI_MESH_UDP=off does without"
    elif "owner" in said or "REDIRECT" in said:
        hint = "; the node's kernel needs the modules xt_owner and xt_REDIRECT"
    return f"{program} ended with {done.returncode}: {said}{hint}"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Exit code 0 when the rules are set (or printed), 1 if they could not be, 2 for wrong use."""
    if list(arguments) not in ([], ["--print"]):
        sys.stderr.write("usage: python -m dataplane.intercept [--print]\n")
        return 2
    try:
        redirects = redirects_from(environ)
        if arguments:
            sys.stdout.write(rules(redirects))
            sys.stdout.write("# for ip6tables-restore, in a pod with a routable IPv6 address\n")
            sys.stdout.write(ipv6_rules(redirects))
        else:
            intercept(redirects)
    except SettingsError as error:
        sys.stderr.write(f"intercept: {error}\n")
        return 2
    except InterceptError as error:
        sys.stderr.write(f"intercept: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
