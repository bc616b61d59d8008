"""Addresses and node ports of Services: given out at write, taken back when the Service goes.

What is in use is derived from the store's changes, so it needs no persistence of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from localmesh.apiserver.errors import ApiError, Cause, invalid, invalid_value
from localmesh.apiserver.jsonvalue import JsonObject, child
from localmesh.apiserver.store import Change, Key, Store

KUBERNETES = Key("default", "kubernetes")
_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")


class ServiceAllocator:
    def __init__(self, store: Store, cidr: str, node_ports: tuple[int, int]) -> None:
        self._network = ipaddress.ip_network(cidr)
        self._ports = range(node_ports[0], node_ports[1] + 1)
        self._addresses: dict[str, Key] = {}
        self._node_ports: dict[tuple[int, str], Key] = {}
        self._next_address = 10
        self._next_port = 0
        for item in store.items("services"):
            self._take(item.key, item.value)
        store.on_change(self._changed)

    @property
    def first_address(self) -> str:
        """The address of the `kubernetes` Service."""
        return str(self._network[1])

    def assign(self, obj: JsonObject, old: JsonObject | None) -> None:
        """Fill in clusterIP(s), ipFamilies and nodePorts, in place; ApiError 422 for what cannot be had."""
        spec = obj["spec"]
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"].get("name") or "")
        self._assign_address(spec, old, key)
        if spec.get("type") in _WITH_NODE_PORTS:
            self._assign_node_ports(spec, old, key)
        else:
            for port in spec.get("ports") or []:
                port.pop("nodePort", None)

    def _assign_address(self, spec: JsonObject, old: JsonObject | None, key: Key) -> None:
        if spec.get("type") == "ExternalName":
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(name, None)
            return
        before = child(old or {}, "spec").get("clusterIP")
        wanted = spec.get("clusterIP") or (spec.get("clusterIPs") or [None])[0] or before
        if wanted in (None, ""):
            wanted = self.first_address if key == KUBERNETES else self._free_address()
        elif wanted != "None" and wanted != before:
            self._check_address(wanted, key)
        spec["clusterIP"] = wanted
        spec["clusterIPs"] = [wanted]
        spec.setdefault("ipFamilies", ["IPv6" if self._network.version == 6 else "IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _check_address(self, address: str, key: Key) -> None:
        try:
            inside = ipaddress.ip_address(address) in self._network
        except ValueError:
            inside = False
        problem = ""
        if not inside:
            problem = (
                f"failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. "
                f"The range of valid IPs is {self._network}"
            )
        elif self._addresses.get(address, key) != key:
            problem = f"failed to allocate IP {address}: provided IP is already allocated"
        if problem:
            cause = invalid_value("spec.clusterIPs", f'["{address}"]', problem)
            raise invalid("Service", "", key.name, [cause])

    def _free_address(self) -> str:
        size = self._network.num_addresses
        for step in range(size):
            offset = (self._next_address + step) % size
            address = str(self._network[offset])
            if 1 < offset < size - 1 and address not in self._addresses:
                self._next_address = offset + 1
                return address
        raise ApiError(500, "InternalError", f"no free address is left in the service range {self._network}")

    def _assign_node_ports(self, spec: JsonObject, old: JsonObject | None, key: Key) -> None:
        before = {
            (port.get("port"), port.get("protocol")): port.get("nodePort")
            for port in child(old or {}, "spec").get("ports") or []
        }
        given: set[tuple[int, str]] = set()
        for position, port in enumerate(spec.get("ports") or []):
            protocol = port.get("protocol", "TCP")
            wanted = port.get("nodePort") or before.get((port.get("port"), protocol))
            if wanted:
                self._check_node_port(wanted, protocol, position, key)
            else:
                wanted = self._free_node_port(protocol, given)
            port["nodePort"] = wanted
            given.add((wanted, protocol))

    def _check_node_port(self, port: int, protocol: str, position: int, key: Key) -> None:
        problem = ""
        if port not in self._ports:
            problem = (
                f"provided port is not in the valid range. The range of valid ports is "
                f"{self._ports.start}-{self._ports.stop - 1}"
            )
        elif self._node_ports.get((port, protocol), key) != key:
            problem = "provided port is already allocated"
        if problem:
            cause: Cause = invalid_value(f"spec.ports[{position}].nodePort", str(port), problem)
            raise invalid("Service", "", key.name, [cause])

    def _free_node_port(self, protocol: str, given: set[tuple[int, str]]) -> int:
        for step in range(len(self._ports)):
            port = self._ports[(self._next_port + step) % len(self._ports)]
            if (port, protocol) not in self._node_ports and (port, protocol) not in given:
                self._next_port = port - self._ports.start + 1
                return port
        raise ApiError(500, "InternalError", "no free node port is left")

    def _changed(self, resource: str, change: Change) -> None:
        if resource != "services":
            return
        if change.before is not None:
            for address in _addresses(change.before.value):
                self._addresses.pop(address, None)
            for pair in _node_ports(change.before.value):
                self._node_ports.pop(pair, None)
        if change.kind != "DELETED":
            self._take(change.item.key, change.item.value)

    def _take(self, key: Key, obj: JsonObject) -> None:
        for address in _addresses(obj):
            self._addresses[address] = key
        for pair in _node_ports(obj):
            self._node_ports[pair] = key


def _addresses(obj: JsonObject) -> Iterator[str]:
    address = child(obj, "spec").get("clusterIP")
    if address and address != "None":
        yield address


def _node_ports(obj: JsonObject) -> Iterator[tuple[int, str]]:
    for port in child(obj, "spec").get("ports") or []:
        if port.get("nodePort"):
            yield port["nodePort"], port.get("protocol", "TCP")
