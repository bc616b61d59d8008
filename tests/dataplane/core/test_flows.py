"""The flow table: bounded, idle flows leave it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dataplane.core.flows import FlowTable


@dataclass(eq=False)
class Flow:
    used: float


def test_idle_flows_leave_and_used_ones_stay() -> None:
    table: FlowTable[str, Flow] = FlowTable(limit=10, idle=30.0)
    old, young = Flow(100.0), Flow(100.0)
    table.add("old", old)
    table.add("young", young)
    assert table.expire(129.9) == []
    young.used = 110.0
    assert table.expire(130.0) == [old]
    assert (table.get("old"), table.get("young"), len(table)) == (None, young, 1)
    table.remove("young")
    table.remove("young")
    assert list(table) == []


def test_a_full_table_says_so() -> None:
    table: FlowTable[int, Flow] = FlowTable(limit=1, idle=30.0)
    table.add(1, Flow(0.0))
    assert table.full
    with pytest.raises(IndexError):
        table.add(2, Flow(0.0))
