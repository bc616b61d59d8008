"""The install manifests and the chart that is generated from them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from controller.kinds import WATCHED
from controller.manifests import InstallSettings, chart, control_plane, main, render
from controller.settings import read_settings
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE

CHART = Path(__file__).parents[2] / "charts" / "smi-mesh"


def test_the_chart_is_up_to_date() -> None:
    """Run `make charts` if this fails."""
    there = {str(path.relative_to(CHART)): path.read_text() for path in CHART.rglob("*") if path.is_file()}
    assert there == chart()


def test_writing_the_chart(tmp_path: Path) -> None:
    main(["--chart", str(tmp_path)])
    assert (tmp_path / "templates" / "deployment.yaml").read_text() == chart()["templates/deployment.yaml"]


def test_every_value_of_the_chart_is_used() -> None:
    files = chart()
    templates = "".join(text for name, text in files.items() if name.startswith("templates/"))
    for name in yaml.safe_load(files["values.yaml"]):
        assert re.search(rf"{{{{.*\.Values\.{name}\b.*}}}}", templates)


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
