"""Environment and downward API, and what loopback mode rewrites."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmesh.node.environment import (
    ConfigError,
    Sources,
    container_env,
    expand,
    field_value,
    quantity,
    resource_value,
    service_links,
)
from localmesh.node.process import Mount
from localmesh.node.rewrite import loopback_command, loopback_env, real_path

POD = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": 'x"y', "a": "1"}},
    "spec": {"nodeName": "local", "serviceAccountName": "sa"},
    "status": {"podIP": "10.0.0.1", "hostIP": "10.0.0.2"},
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
    ],
)
def test_references_are_expanded(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == result


@given(st.text().filter(lambda text: "$" not in text))
def test_text_without_dollar_is_left_alone(text: str) -> None:
    assert expand(text, {"A": "1"}) == text


def test_later_variables_see_earlier_ones_and_the_base() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(BASE)"}, {"name": "A", "value": "$(B)"}]
    assert container_env({"env": env}, POD, Sources(), {"BASE": "0"}) == {"BASE": "0", "A": "10", "B": "10"}


def test_optional_sources_may_be_absent_others_are_named() -> None:
    optional = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}
    assert container_env({"env": [optional]}, POD, Sources(), {}) == {}
    required = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    with pytest.raises(ConfigError, match=r"secret 's' not found"):
        container_env({"env": [required]}, POD, Sources(), {})
    with pytest.raises(ConfigError, match="key 'k' not found in secret 's'"):
        container_env({"env": [required]}, POD, Sources(secrets={"s": {"data": {}}}), {})


def test_downward_fields() -> None:
    assert field_value(POD, "metadata.labels['a']", "w") == "1"
    assert field_value(POD, "metadata.labels", "w") == 'a="1"\nb="x\\"y"'
    assert field_value(POD, "status.podIP", "w") == "10.0.0.1"
    assert field_value(POD, "spec.serviceAccountName", "w") == "sa"
    with pytest.raises(ConfigError, match=r"unsupported fieldPath 'spec\.foo'"):
        field_value(POD, "spec.foo", "w")


def test_resources_are_divided_and_rounded_up() -> None:
    container = {"resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}}
    assert resource_value(container, {"resource": "limits.cpu"}, "w") == "2"
    assert resource_value(container, {"resource": "limits.cpu", "divisor": "1m"}, "w") == "1500"
    assert resource_value(container, {"resource": "limits.memory", "divisor": "1Mi"}, "w") == "1024"
    assert quantity("2k", "w") == 2000
    with pytest.raises(ConfigError, match="not a quantity"):
        quantity("lots", "w")


def test_service_links() -> None:
    service = {
        "metadata": {"name": "my-db"},
        "spec": {"clusterIP": "10.1.1.1", "ports": [{"name": "sql", "port": 5}]},
    }
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}
    assert service_links([service, headless]) == {
        "MY_DB_SERVICE_HOST": "10.1.1.1",
        "MY_DB_SERVICE_PORT": "5",
        "MY_DB_SERVICE_PORT_SQL": "5",
    }


MOUNTS = (Mount("/real/a", "/data", False), Mount("/real/b", "/data/deep/", False))


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("/data", "/real/a"),
        ("/data/x", "/real/a/x"),
        ("/data/deep/x", "/real/b/x"),
        ("/database", "/database"),
        ("--file=/data/x", "--file=/real/a/x"),
        ("see /data", "see /data"),
    ],
)
def test_leading_mount_paths_become_real_ones(value: str, result: str) -> None:
    assert real_path(value, MOUNTS) == result
    assert loopback_command([value], MOUNTS) == (result,)


def test_service_names_that_are_whole_values_become_addresses() -> None:
    service = {"metadata": {"name": "api", "namespace": "n"}, "spec": {"clusterIP": "127.96.0.9"}}
    env = {"A": "api.n.svc", "B": "api.n.svc.cluster.local", "C": "http://api.n.svc/", "D": "api"}
    assert loopback_env(env, (), [service], "cluster.local") == {
        "A": "127.96.0.9",
        "B": "127.96.0.9",
        "C": "http://api.n.svc/",
        "D": "api",
    }
