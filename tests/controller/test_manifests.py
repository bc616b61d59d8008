"""The install manifests; for the chart made of them see test_chart."""

from __future__ import annotations

from controller.kinds import WATCHED
from controller.manifests import InstallSettings, control_plane, render
from controller.settings import read_settings
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE


def test_the_namespace_comes_first_and_everything_else_is_in_it() -> None:
    manifests = render(InstallSettings())
    assert manifests[0]["metadata"]["name"] == SYSTEM_NAMESPACE
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests]
    assert len(set(names)) == len(names)
    for one in manifests:
        where = "kube-system" if one["metadata"]["name"].endswith("-front-proxy") else SYSTEM_NAMESPACE
        assert one["metadata"].get("namespace", where) == where


def test_the_controller_understands_the_environment_it_is_given() -> None:
    deployment = next(one for one in control_plane(InstallSettings()) if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one.get("value", "") for one in container["env"]}
    settings = read_settings(given | {"POD_IP": "10.0.0.1"})
    assert settings.proxy_image == InstallSettings().proxy_image
    assert settings.controller == f"{CONTROLLER_NAME}.{SYSTEM_NAMESPACE}.svc"


def test_every_watched_kind_may_be_watched() -> None:
    role = next(one for one in control_plane(InstallSettings()) if one["kind"] == "ClusterRole")
    for kind in WATCHED:
        verbs = {
            verb
            for rule in role["rules"]
            if kind.group in rule["apiGroups"] and kind.plural in rule["resources"]
            for verb in rule["verbs"]
        }
        assert not verbs & {"create", "update", "delete", "patch"}, (
            "nothing is ever written to users' objects"
        )
