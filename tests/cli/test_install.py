"""What installing again must not destroy."""

from __future__ import annotations

from typing import Any

from cli.install import keep_ca_bundles


def configuration(*hooks: tuple[str, str | None]) -> dict[str, Any]:
    return {
        "kind": "MutatingWebhookConfiguration",
        "webhooks": [
            {"name": name, "clientConfig": {"service": {}} | ({"caBundle": bundle} if bundle else {})}
            for name, bundle in hooks
        ],
    }


def test_bundles_that_the_controller_filled_in_are_kept() -> None:
    wanted = configuration(("inject", None), ("new", None))
    kept = keep_ca_bundles(wanted, configuration(("inject", "Q0E="), ("old", "Q0E=")))
    assert [hook["clientConfig"].get("caBundle") for hook in kept["webhooks"]] == ["Q0E=", None]
    assert "caBundle" not in wanted["webhooks"][0]["clientConfig"]


def test_a_bundle_that_is_given_wins() -> None:
    kept = keep_ca_bundles(configuration(("inject", "TkVX")), configuration(("inject", "Q0E=")))
    assert kept["webhooks"][0]["clientConfig"]["caBundle"] == "TkVX"


def test_objects_without_webhooks_stay_as_they_are() -> None:
    assert keep_ca_bundles({"kind": "ConfigMap"}, {}) == {"kind": "ConfigMap"}
