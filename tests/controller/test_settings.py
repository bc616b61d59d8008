"""Environment → Settings: defaults, and messages that name the variable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.settings import Interception, LogLevel, Settings, SettingsError, read_settings


def test_an_empty_environment_means_the_defaults() -> None:
    assert read_settings({}) == Settings()
    assert read_settings({"SMI_MESH_PROXY_IMAGE": "", "POD_IP": " "}) == Settings()


def test_everything_can_be_set() -> None:
    found = read_settings(
        {
            "POD_IP": "10.1.2.3",
            "SMI_MESH_CONTROLLER": "10.96.0.9",
            "SMI_MESH_TRUST_DOMAIN": "example.org",
            "SMI_MESH_LEAF_SECONDS": "2.5",
            "SMI_MESH_DISCOVERY_PORT": "0",
            "SMI_MESH_LOG_LEVEL": "DEBUG",
            "SMI_MESH_PROMETHEUS": "http://prometheus.monitoring:9090",
            "SMI_MESH_PROXY_WORKERS": "4",
            "SMI_MESH_PROXY_ACCESS_LOG": "json failures",
            "SMI_MESH_PROXY_UDP_IDLE_SECONDS": "60",
            "SMI_MESH_PROXY_MEMORY_LIMIT": "1Gi",
        }
    )
    assert (found.proxy_workers, found.proxy_access_log) == (4, "json failures")
    assert found.proxy_udp_idle_seconds == 60
    assert found.proxy_resources == replace(Settings().proxy_resources, memory_limit="1Gi")
    assert read_settings({"SMI_MESH_PROXY_ACCESS_LOG": "off"}).proxy_access_log == ""
    assert found.bind == "0.0.0.0"
    assert (found.pod_ip, found.controller, found.trust_domain) == ("10.1.2.3", "10.96.0.9", "example.org")
    assert found.prometheus == "http://prometheus.monitoring:9090"
    assert (found.leaf_seconds, found.discovery_port, found.log_level) == (2.5, 0, LogLevel.DEBUG)


def test_without_network_namespaces_only_the_pods_own_address_is_bound() -> None:
    found = read_settings({"SMI_MESH_INTERCEPTION": "explicit", "POD_IP": "127.10.0.7"})
    assert found.interception is Interception.EXPLICIT
    assert found.bind == "127.10.0.7"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POD_IP", "pod"),
        ("SMI_MESH_BIND", "localhost"),
        ("SMI_MESH_DISCOVERY_PORT", "65536"),
        ("SMI_MESH_IDENTITY_PORT", "-1"),
        ("SMI_MESH_LEAF_SECONDS", "1"),
        ("SMI_MESH_LEAF_SECONDS", "inf"),
        ("SMI_MESH_LEAF_SECONDS", "nan"),
        ("SMI_MESH_QUIET_SECONDS", "soon"),
        ("SMI_MESH_INTERCEPTION", "ebpf"),
        ("SMI_MESH_LOG_LEVEL", "loud"),
        ("SMI_MESH_PROMETHEUS", "prometheus:9090"),
        ("SMI_MESH_PROXY_WORKERS", "0"),
        ("SMI_MESH_PROXY_WORKERS", "65"),
        ("SMI_MESH_PROXY_ACCESS_LOG", "xml"),
        ("SMI_MESH_PROXY_UDP_IDLE_SECONDS", "0.5"),
        ("SMI_MESH_PROXY_CPU_REQUEST", "many"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: expected .*{value}"):
        read_settings({name: value})
