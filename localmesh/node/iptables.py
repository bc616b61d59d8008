"""The node's firewall rules as text for `iptables-restore`. Pure.

All rules live in the node's own network namespace, so a restore replaces everything there in one step and the
host's rules are never touched. Balancing is kube-proxy's: one rule per endpoint, the first of n taken with
probability 1/n, the next with 1/(n-1), the last always.
"""

from __future__ import annotations

from localmesh.node.services import ServicePort, ServiceTable

CHAIN = "LOCALMESH-SERVICES"


def render(table: ServiceTable, node_address: str, service_cidr: str) -> str:
    """The complete rule set: DNAT for ClusterIPs and NodePorts, hairpin, refusal without endpoints."""
    nat = [
        "*nat",
        ":PREROUTING ACCEPT [0:0]",
        ":INPUT ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        ":POSTROUTING ACCEPT [0:0]",
        f":{CHAIN} - [0:0]",
        f"-A PREROUTING -j {CHAIN}",
        f"-A OUTPUT -j {CHAIN}",
    ]
    for port in table.ports:
        nat += _service_rules(port, node_address)
    # A pod that reaches itself through its Service would see its own address as the caller and drop it.
    nat += [f"-A POSTROUTING -s {address}/32 -d {address}/32 -j MASQUERADE" for address in sorted(table.pods)]
    # What still goes to a service address here has no endpoint: refuse it at once instead of a time-out.
    refusal = [
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":FORWARD ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        f"-A FORWARD -d {service_cidr} -p tcp -j REJECT --reject-with tcp-reset",
        f"-A FORWARD -d {service_cidr} -j REJECT --reject-with icmp-port-unreachable",
    ]
    return "\n".join([*nat, "COMMIT", *refusal, "COMMIT", ""])


def _service_rules(port: ServicePort, node_address: str) -> list[str]:
    protocol = port.protocol.lower()
    if protocol not in ("tcp", "udp", "sctp"):
        return []
    fronts = []
    if port.address:
        fronts.append((port.address, port.port))
    if port.node_port:
        fronts.append((node_address, port.node_port))
    rules = []
    for address, number in fronts:
        match = f"-A {CHAIN} -d {address}/32 -p {protocol} -m {protocol} --dport {number}"
        comment = f'-m comment --comment "{port.namespace}/{port.service}:{port.port}"'
        for position, backend in enumerate(port.backends):
            left = len(port.backends) - position
            chance = f" -m statistic --mode random --probability {1 / left:.11f}" if left > 1 else ""
            rules.append(
                f"{match} {comment}{chance} -j DNAT --to-destination {backend.address}:{backend.port}"
            )
    return rules
