"""What the test application is told through its environment, checked once at start-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - a pod's application is reached from outside its namespace


class SettingsError(ValueError):
    """An environment variable has a value that cannot be used; the text names it and the fix."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An explicit HTTP proxy (`HTTP_PROXY`), and the hosts it is not used for (`NO_PROXY`)."""

    host: str
    port: int
    bypass: tuple[str, ...] = ()

    def serves(self, host: str) -> bool:
        """Whether a request to `host` goes through this proxy (exact names and `.suffix` entries)."""
        name = host.lower()
        return not any(
            entry == "*" or name == entry.lstrip(".") or name.endswith("." + entry.lstrip("."))
            for entry in self.bypass
        )

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self | None:
        """Read `http_proxy`/`HTTP_PROXY` and `no_proxy`/`NO_PROXY`; None when no proxy is set."""
        text = env.get("http_proxy") or env.get("HTTP_PROXY") or ""
        if not text:
            return None
        url = urlsplit(text if "://" in text else f"http://{text}")
        try:
            port = url.port
        except ValueError as error:
            raise SettingsError(f"HTTP_PROXY={text!r}: {error}") from None
        if url.scheme != "http" or not url.hostname or port is None:
            raise SettingsError(f"HTTP_PROXY={text!r}: expected http://<host>:<port>")
        bypass = env.get("no_proxy") or env.get("NO_PROXY") or ""
        entries = (entry.strip().lower() for entry in bypass.split(","))
        return cls(url.hostname, port, tuple(entry for entry in entries if entry))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the application needs to start. Ports: None = that listener is off, 0 = any free."""

    name: str
    """Reported back in every answer: which service this is."""
    pod: str
    """Reported back as well; the host name when the pod name is not given."""
    bind: str = EVERYWHERE
    http_port: int | None = 8080
    tcp_port: int | None = None
    udp_port: int | None = None
    control_port: int | None = 9000
    greet: bool = False
    """The TCP listener speaks first, as MySQL or SMTP do."""
    proxy: Proxy | None = None

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self:
        """Read NAME, POD_NAME, BIND, {HTTP,TCP,UDP,CONTROL}_PORT, GREET and the proxy variables."""
        name = env.get("NAME") or "app"
        return cls(
            name=name,
            pod=env.get("POD_NAME") or env.get("HOSTNAME") or name,
            bind=env.get("BIND") or EVERYWHERE,
            http_port=_port(env, "HTTP_PORT", 8080),
            tcp_port=_port(env, "TCP_PORT", None),
            udp_port=_port(env, "UDP_PORT", None),
            control_port=_port(env, "CONTROL_PORT", 9000),
            greet=_switch(env, "GREET"),
            proxy=Proxy.from_environment(env),
        )


def _port(env: Mapping[str, str], key: str, default: int | None) -> int | None:
    text = env.get(key)
    if text is None or text == "":
        return default
    if text == "off":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise SettingsError(f"{key}={text!r}: expected a port number from 0 to 65535, or 'off'")
    return int(text)


def _switch(env: Mapping[str, str], key: str) -> bool:
    text = env.get(key, "")
    if text in ("", "0", "false"):
        return False
    if text in ("1", "true"):
        return True
    raise SettingsError(f"{key}={text!r}: expected 1 or 0")
