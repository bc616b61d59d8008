"""Shares of real traffic: splits, header filters, and how fast a change is live."""

from __future__ import annotations

import pytest

from conformance.expect import judge_shares
from tests.e2e.harness import Cluster, wait_for
from tests.e2e.policies import OPEN_API, routes, split

REQUESTS = 400


@pytest.mark.parametrize(("first", "second"), [(100, 0), (90, 10), (50, 50), (1, 3), (0, 100)])
def test_the_observed_share_is_the_wanted_one(policies: Cluster, first: int, second: int) -> None:
    policies.apply(OPEN_API + split({"api-v1": first, "api-v2": second}))
    policies.programmed("trafficsplit", "api")
    answer = policies.call("web", url="http://api:8080/", count=REQUESTS, concurrency=8)
    assert answer["statuses"] == {"200": REQUESTS}
    shares = judge_shares({"api-v1": first, "api-v2": second}, answer["servers"])
    assert all(share.ok for share in shares), shares


def test_a_header_chooses_the_version(policies: Cluster) -> None:
    policies.apply(
        OPEN_API
        + routes("firefox", '[{name: firefox, headers: {user-agent: ".*Firefox.*"}}]')
        + split({"api-v1": 0, "api-v2": 100}, matches="firefox")
    )
    policies.programmed("trafficsplit", "api")
    firefox = policies.call("web", url="http://api:8080/", headers={"user-agent": "Firefox/120"}, count=50)
    assert firefox["servers"] == {"api-v2": 50}
    others = policies.call("web", url="http://api:8080/", headers={"user-agent": "curl/8"}, count=200)
    assert set(others["servers"]) == {"api-v1", "api-v2"}
    assert sum(others["servers"].values()) == 200


def test_all_weights_zero_is_an_answer_not_a_fall_through(policies: Cluster) -> None:
    """S8."""
    policies.apply(OPEN_API + split({"api-v1": 0, "api-v2": 0}))
    policies.programmed("trafficsplit", "api")
    answer = policies.call("web", url="http://api:8080/", count=10)
    assert answer["statuses"] == {"503": 10}
    assert list(answer["reasons"].values()) == [10]


def test_deleting_the_split_restores_plain_routing(policies: Cluster) -> None:
    """S15."""
    policies.apply(OPEN_API + split({"api-v1": 0, "api-v2": 1}))
    policies.programmed("trafficsplit", "api")
    policies.kubectl("delete", "-n", "shop", "trafficsplit", "api")

    def both() -> bool:
        return set(policies.call("web", url="http://api:8080/", count=60)["servers"]) == {"api-v1", "api-v2"}

    assert wait_for("both versions answer again", both, seconds=5)
