"""What a pod is an instance of: from owner and labels, into configuration and certificates and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compile.workload import workload_of
from smi.names import Workload

HASH = {"pod-template-hash": "6d4cf56db6"}


@pytest.mark.parametrize(
    ("labels", "owner", "expected"),
    [
        (HASH, ("ReplicaSet", "api-v1-6d4cf56db6"), Workload("Deployment", "api-v1")),
        (
            {"pod-template-hash": "other"},
            ("ReplicaSet", "api-6d4cf56db6"),
            Workload("ReplicaSet", "api-6d4cf56db6"),
        ),
        ({}, ("ReplicaSet", "by-hand"), Workload("ReplicaSet", "by-hand")),
        ({"rollouts-pod-template-hash": "5f7"}, ("ReplicaSet", "shop-5f7"), Workload("Rollout", "shop")),
        ({}, ("StatefulSet", "db"), Workload("StatefulSet", "db")),
        ({}, ("", ""), Workload()),
        ({"app": "a", "version": "v2"}, ("DaemonSet", "d"), Workload("DaemonSet", "d", "a", "v2")),
        (
            {"app.kubernetes.io/name": "a", "app.kubernetes.io/version": "1.0"},
            ("Job", "j"),
            Workload("Job", "j", "a", "1.0"),
        ),
    ],
)
def test_workload_follows_from_owner_and_labels(
    labels: dict[str, str], owner: tuple[str, str], expected: Workload
) -> None:
    assert workload_of(labels, owner) == expected


_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)
_LABELS = st.just("") | st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?", fullmatch=True)
_WORKLOADS = st.builds(
    Workload, st.sampled_from(["Deployment", "StatefulSet", "Pod"]), _NAMES, _LABELS, _LABELS
)


@given(_WORKLOADS)
def test_both_forms_are_read_back(workload: Workload) -> None:
    assert Workload.parse(str(workload)) == workload
    assert Workload.from_dns_sans(("api.shop.svc", *workload.dns_sans())) == workload


def test_nothing_known_is_written_as_nothing() -> None:
    assert str(Workload()) == ""
    assert Workload().dns_sans() == ()
    assert Workload.parse("") == Workload()
    assert Workload.parse("a/b/c/d/e") == Workload()
