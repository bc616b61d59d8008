"""What the CA decides, without any certificate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ca.policy import (
    BACKDATE,
    Caller,
    RefusedError,
    Roots,
    Step,
    Validity,
    controller_names,
    leaf_validity,
    next_step,
    renewal_time,
    workload_names,
)
from smi.names import Workload

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
GOOD = Caller("system:serviceaccount:shop:web", ("smi-mesh-ca",), "web-7d9f-x2")


def test_a_workload_is_named_by_its_token_only() -> None:
    names = workload_names(GOOD, "smi-mesh-ca", "cluster.local")
    assert names.uri == "spiffe://cluster.local/ns/shop/sa/web"
    assert names.dns == ("web-7d9f-x2.shop.pod.smi-mesh.internal",)


@pytest.mark.parametrize(
    ("caller", "why"),
    [
        (replace(GOOD, audiences=("https://kubernetes.default.svc",)), "audience"),
        (replace(GOOD, audiences=()), "audience"),
        (replace(GOOD, username="alice"), "not a service account"),
        (replace(GOOD, username="system:serviceaccount:shop"), "not a service account"),
        (replace(GOOD, username="system:serviceaccount:shop:../web"), "not a service account"),
        (replace(GOOD, username="system:serviceaccount:shop/ns:web"), "not a service account"),
        (replace(GOOD, pod=None), "not bound to a pod"),
        (replace(GOOD, pod="web.shop,evil"), "not bound to a pod"),
    ],
)
def test_who_gets_no_certificate(caller: Caller, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        workload_names(caller, "smi-mesh-ca", "cluster.local")


def test_the_controller_is_reachable_by_every_name_of_its_service() -> None:
    names = controller_names(
        "td", "sys", "ctl", "cluster.local", ("10.0.0.9", "ctl.sys.svc", "mesh.example", "")
    )
    assert names.uri == "spiffe://td/ns/sys/sa/ctl"
    assert names.dns == ("ctl", "ctl.sys", "ctl.sys.svc", "ctl.sys.svc.cluster.local", "mesh.example")
    assert names.addresses == ("10.0.0.9",)


@given(st.timedeltas(timedelta(0), 2 * DAY), st.timedeltas(timedelta(seconds=3), 30 * DAY))
def test_a_leaf_never_outlives_its_issuer(life: timedelta, left: timedelta) -> None:
    validity = leaf_validity(NOW, life, NOW + left)
    assert validity.not_before == NOW - BACKDATE
    assert NOW < validity.not_after <= NOW + left


def test_an_issuer_at_its_end_issues_nothing() -> None:
    with pytest.raises(RefusedError, match="smi-mesh-ca"):
        leaf_validity(NOW, DAY, NOW + timedelta(seconds=1))


@given(st.floats(0, 1, exclude_max=True))
def test_renewal_falls_between_60_and_70_percent(chance: float) -> None:
    at = renewal_time(NOW, NOW + DAY, chance)
    assert NOW + 0.6 * DAY <= at <= NOW + 0.7 * DAY


YOUNG = Roots(Validity(NOW - DAY, NOW + 100 * DAY), generated=True)
OLD = Roots(Validity(NOW - 90 * DAY, NOW + 10 * DAY), generated=True)


@pytest.mark.parametrize(
    ("roots", "step"),
    [
        (YOUNG, Step.KEEP),
        (OLD, Step.INTRODUCE),
        (replace(OLD, generated=False), Step.KEEP),
        (replace(OLD, introduced=NOW - 1.9 * DAY), Step.KEEP),
        (replace(OLD, introduced=NOW - 2 * DAY), Step.SWITCH),
        (replace(YOUNG, switched=NOW - 1.9 * DAY), Step.KEEP),
        (replace(YOUNG, switched=NOW - 2 * DAY), Step.RETIRE),
    ],
)
def test_the_steps_of_a_root_rotation(roots: Roots, step: Step) -> None:
    decision = next_step(roots, NOW, DAY)
    assert decision.step is step
    assert decision.reason


def test_a_certificate_says_what_its_pod_is_an_instance_of_and_no_more() -> None:
    workload = Workload("Deployment", "web.v1", "web", "web-0.shop.pod.smi-mesh.internal")
    names = workload_names(GOOD, "smi-mesh-ca", "cluster.local", workload)
    assert names.dns[1:] == (
        "Deployment.web.v1.workload.smi-mesh.internal",
        "web.app.smi-mesh.internal",
        "web-0.shop.pod.smi-mesh.internal.version.smi-mesh.internal",  # nobody's pod name
    )
    assert Workload.from_dns_sans(names.dns) == workload
    assert workload_names(GOOD, "smi-mesh-ca", "td", Workload("K", "n", "ä,b")).dns[1:] == (
        "K.n.workload.smi-mesh.internal",
    )
