"""The environment of a sidecar: defaults, every variable, and errors that name theirs."""

from __future__ import annotations

import pytest

from dataplane.settings import CollectorUrl, Interception, SettingsError, Tracing, settings_from

BUNDLE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
LEAST = {"POD_NAME": "web-1", "POD_NAMESPACE": "shop", "POD_IP": "10.1.2.3", "SMI_MESH_TRUST_BUNDLE": BUNDLE}


def test_what_the_injector_always_sets_is_enough() -> None:
    settings = settings_from(LEAST)
    assert settings.pod_name == "shop/web-1"
    assert settings.controller == "smi-mesh-controller.smi-mesh-system.svc"
    assert settings.controller_identity == "spiffe://cluster.local/ns/smi-mesh-system/sa/smi-mesh-controller"
    assert settings.interception is Interception.IPTABLES
    assert settings.bind == "0.0.0.0"
    assert (settings.outbound_port, settings.inbound_port, settings.mesh_port, settings.admin_port) == (
        15001,
        15006,
        15008,
        15020,
    )
    assert "MIIB" not in repr(settings)


def test_every_variable_is_read() -> None:
    settings = settings_from(
        LEAST
        | {
            "SMI_MESH_CONTROLLER": "127.1.1.1",
            "SMI_MESH_TRUST_DOMAIN": "example.org",
            "SMI_MESH_CLUSTER_DOMAIN": "k8s.local",
            "SMI_MESH_TOKEN_FILE": "/t",
            "SMI_MESH_INTERCEPTION": "explicit",
            "SMI_MESH_EXCLUDE_INBOUND": " 9000, 9001 ,",
            "SMI_MESH_EXCLUDE_OUTBOUND": "5432",
            "SMI_MESH_LOG_LEVEL": "DEBUG",
            "SMI_MESH_DRAIN_SECONDS": "2.5",
            "SMI_MESH_DISCOVERY_PORT": "1",
            "SMI_MESH_IDENTITY_PORT": "2",
            "SMI_MESH_OUTBOUND_PORT": "3",
            "SMI_MESH_INBOUND_PORT": "4",
            "SMI_MESH_MESH_PORT": "5",
            "SMI_MESH_ADMIN_PORT": "65535",
        }
    )
    assert settings.controller == "127.1.1.1"
    assert settings.controller_identity.startswith("spiffe://example.org/")
    assert settings.cluster_domain == "k8s.local"
    assert settings.token_file == "/t"
    assert settings.bind == "10.1.2.3"
    assert settings.exclude_inbound == {9000, 9001}
    assert settings.exclude_outbound == {5432}
    assert settings.log_level == "debug"
    assert settings.drain_seconds == 2.5
    assert settings.discovery_port == 1
    assert settings.identity_port == 2
    assert settings.outbound_port == 3
    assert settings.inbound_port == 4
    assert settings.mesh_port == 5
    assert settings.admin_port == 65535


@pytest.mark.parametrize("name", sorted(LEAST))
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_variable_is_named(name: str, value: str | None) -> None:
    environ = {key: text for key, text in LEAST.items() if key != name}
    if value is not None:
        environ[name] = value
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        settings_from(environ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POD_IP", "ten"),
        ("SMI_MESH_TRUST_BUNDLE", "certificate"),
        ("SMI_MESH_INTERCEPTION", "magic"),
        ("SMI_MESH_LOG_LEVEL", "loud"),
        ("SMI_MESH_EXCLUDE_INBOUND", "80,http"),
        ("SMI_MESH_EXCLUDE_OUTBOUND", "0"),
        ("SMI_MESH_EXCLUDE_OUTBOUND", "65536"),
        ("SMI_MESH_EXCLUDE_OUTBOUND", "9" * 5000),
        ("SMI_MESH_EXCLUDE_OUTBOUND", "٣"),
        ("SMI_MESH_ADMIN_PORT", "-1"),
        ("SMI_MESH_DRAIN_SECONDS", "soon"),
        ("SMI_MESH_DRAIN_SECONDS", "nan"),
        ("SMI_MESH_DRAIN_SECONDS", "-1"),
    ],
)
def test_a_bad_value_is_named_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must ") as caught:
        settings_from(LEAST | {name: value})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("text", "workers"), [("", 1), ("1", 1), ("4", 4), ("64", 64)])
def test_workers(text: str, workers: int) -> None:
    assert settings_from(LEAST | {"SMI_MESH_WORKERS": text}).workers == workers


@pytest.mark.parametrize("text", ["0", "-1", "65", "two", "1.5", "99999999"])
def test_workers_that_cannot_be(text: str) -> None:
    with pytest.raises(SettingsError, match="SMI_MESH_WORKERS must be a number of processes from 1 to 64"):
        settings_from(LEAST | {"SMI_MESH_WORKERS": text})


def test_tracing_is_off_without_a_collector_or_a_share() -> None:
    assert settings_from(LEAST | {"SMI_MESH_TRACE_SAMPLING": "100%"}).tracing is None
    off = {"SMI_MESH_TRACING": "http://collector:4318", "SMI_MESH_TRACE_SAMPLING": "off"}
    assert settings_from(LEAST | off).tracing is None


@pytest.mark.parametrize(
    ("url", "protocol", "expected"),
    [
        ("http://collector:4318", "otlp", CollectorUrl("collector", 4318, "/v1/traces")),
        ("http://collector:9411/", "zipkin", CollectorUrl("collector", 9411, "/api/v2/spans")),
        ("https://o11y.example", "", CollectorUrl("o11y.example", 443, "/v1/traces", secure=True)),
        ("http://[fd00::1]/in", "otlp", CollectorUrl("fd00::1", 80, "/in")),
    ],
)
def test_where_spans_go(url: str, protocol: str, expected: CollectorUrl) -> None:
    settings = settings_from(LEAST | {"SMI_MESH_TRACING": url, "SMI_MESH_TRACING_PROTOCOL": protocol})
    assert settings.tracing == Tracing(expected, protocol or "otlp", 0.01, ("w3c",))
    assert str(expected).startswith(("http://", "https://"))
    assert expected.authority in str(expected)


def test_how_traces_are_taken_part_in() -> None:
    given = {
        "SMI_MESH_TRACING": "http://collector:4318",
        "SMI_MESH_TRACE_SAMPLING": "2.5%",
        "SMI_MESH_TRACE_CONTEXT": "b3, w3c",
        "SMI_MESH_TRACING_HEADERS": "authorization=Bearer%20a%2Cb , x-scope=one,",
        "SMI_MESH_TRACING_CA": BUNDLE,
    }
    tracing = settings_from(LEAST | given).tracing
    assert tracing is not None
    assert (tracing.share, tracing.forms) == (0.025, ("b3", "w3c"))
    assert tracing.headers == (("authorization", "Bearer a,b"), ("x-scope", "one"))
    assert tracing.ca == BUNDLE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMI_MESH_TRACING", "collector:4318"),
        ("SMI_MESH_TRACING", "http://"),
        ("SMI_MESH_TRACING", "http://me:s3cr3t@collector"),
        ("SMI_MESH_TRACING", "http://collector/?key=s3cr3t"),
        ("SMI_MESH_TRACING", "http://collector:port"),
        ("SMI_MESH_TRACING", "http://collector/a b"),
        ("SMI_MESH_TRACING_PROTOCOL", "jaeger"),
        ("SMI_MESH_TRACE_SAMPLING", "2"),
        ("SMI_MESH_TRACE_SAMPLING", "101%"),
        ("SMI_MESH_TRACE_CONTEXT", "b4"),
        ("SMI_MESH_TRACE_CONTEXT", ","),
        ("SMI_MESH_TRACING_HEADERS", "s3cr3t"),
        ("SMI_MESH_TRACING_HEADERS", "x-token=s3cr3t%0d%0ax: y"),
        ("SMI_MESH_TRACING_HEADERS", "x token=s3cr3t"),
        ("SMI_MESH_TRACING_CA", "s3cr3t"),
    ],
)
def test_a_wish_for_tracing_that_cannot_be_is_named_without_what_may_be_secret(name: str, value: str) -> None:
    given = {"SMI_MESH_TRACING": "http://collector:4318", name: value}
    with pytest.raises(SettingsError, match=f"^{name}( must |: )") as caught:
        settings_from(LEAST | given)
    assert "s3cr3t" not in str(caught.value)
