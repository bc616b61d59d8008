"""Field ownership and server-side apply: who owns what, what conflicts, what goes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmesh.apiserver import fieldset, ownership
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.ownership import Owner
from localmesh.apiserver.structure import DEDUCED, Structure, kind_structure

from .conftest import Answer, Client

DEPLOYMENT = kind_structure("apps/v1", "Deployment")
MAP = kind_structure("v1", "ConfigMap")
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SERVICES = "/api/v1/namespaces/default/services"


def applier(name: str) -> Owner:
    return Owner(name, "Apply", "v1")


def updater(name: str, subresource: str = "") -> Owner:
    return Owner(name, "Update", "v1", subresource)


def apply(
    live: dict[str, Any],
    config: dict[str, Any],
    who: str,
    structure: Structure = DEDUCED,
    *,
    force: bool = False,
    now: str = "t",
) -> dict[str, Any]:
    return ownership.applied(live, config, structure, applier(who), now, force=force)


def update(live: dict[str, Any], new: dict[str, Any], owner: Owner, structure: Structure = DEDUCED) -> Any:
    rows = ownership.updated(live, new, structure, owner, "t")
    return {**new, "metadata": {**new.get("metadata", {}), "managedFields": rows}}


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    return {row["manager"]: row["fieldsV1"] for row in obj["metadata"]["managedFields"]}


def plain(obj: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key != "metadata"}


def pod_template(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": list(containers)}}}}


# --- pure ------------------------------------------------------------------------------------------


def test_an_applier_gives_up_what_it_leaves_out() -> None:
    first = apply({}, {"data": {"a": "1", "b": "2"}}, "m1")
    assert plain(apply(first, {"data": {"a": "1"}}, "m1")) == {"data": {"a": "1"}}


def test_what_two_own_stays_until_both_gave_it_up() -> None:
    both = apply(apply({}, {"data": {"a": "1"}}, "m1"), {"data": {"a": "1"}}, "m2")
    one = apply(both, {"data": {"b": "2"}}, "m1")
    assert plain(one) == {"data": {"a": "1", "b": "2"}}
    assert plain(apply(one, {"data": {"c": "3"}}, "m2")) == {"data": {"b": "2", "c": "3"}}


def test_every_conflict_is_named() -> None:
    live = update({}, {"data": {"a": "1", "b": "2", "c": "3"}}, updater("hand"), MAP)
    live = apply(live, {"data": {"c": "3"}}, "m1", MAP)
    wanted = {"data": {"a": "x", "b": "y", "c": "z"}}
    with pytest.raises(ApiError) as caught:
        apply(live, wanted, "m2", MAP)
    assert caught.value.code == 409
    assert caught.value.message == (
        'Apply failed with 4 conflicts: conflicts with "hand" using v1:\n- .data.a\n- .data.b\n- .data.c\n'
        'conflicts with "m1":\n- .data.c'
    )
    causes = (caught.value.details or {})["causes"]
    assert {cause["reason"] for cause in causes} == {"FieldManagerConflict"}
    forced = apply(live, wanted, "m2", MAP, force=True)
    assert owners(forced).keys() == {"hand", "m2"}, "m1 lost all it had"
    assert owners(forced)["hand"] == {"f:data": {}}, "the map itself, which was not taken"


def test_containers_are_owned_by_name_and_ports_by_number_and_protocol() -> None:
    web = {"name": "web", "image": "a", "ports": [{"containerPort": 80}]}
    live = apply({}, pod_template(web), "m1", DEPLOYMENT)
    live = apply(live, pod_template({"name": "side", "image": "b"}), "m2", DEPLOYMENT)
    names = [c["name"] for c in live["spec"]["template"]["spec"]["containers"]]
    assert names == ["web", "side"]
    spec = owners(live)["m1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert spec.keys() == {'k:{"name":"web"}'}
    ports = spec['k:{"name":"web"}']["f:ports"]
    assert ports == {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}
    with pytest.raises(
        ApiError, match=r'conflict with "m1": \.spec\.template\.spec\.containers\[name="web"\]\.image'
    ):
        apply(live, pod_template({"name": "web", "image": "c"}), "m3", DEPLOYMENT)
    live = apply(live, pod_template({"name": "other"}), "m1", DEPLOYMENT)
    names = [c["name"] for c in live["spec"]["template"]["spec"]["containers"]]
    assert names == ["side", "other"], "web went as a whole"


def test_an_item_goes_with_defaults_nobody_owns_but_not_with_what_another_owns() -> None:
    live = apply({}, pod_template({"name": "web", "image": "a"}), "m1", DEPLOYMENT)
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    assert "spec" not in apply(live, {}, "m1", DEPLOYMENT)
    live = apply(live, pod_template({"name": "web", "tty": True}), "m2", DEPLOYMENT)
    kept = apply(live, {}, "m1", DEPLOYMENT)
    assert kept["spec"]["template"]["spec"]["containers"] == [
        {"name": "web", "imagePullPolicy": "Always", "tty": True}
    ]


def test_selectors_are_one_piece() -> None:
    live = apply({}, {"spec": {"selector": {"matchLabels": {"a": "1"}}}}, "m1", DEPLOYMENT)
    assert owners(live)["m1"] == {"f:spec": {"f:selector": {}}}
    with pytest.raises(ApiError, match=r"\.spec\.selector"):
        apply(live, {"spec": {"selector": {"matchLabels": {"b": "1"}}}}, "m2", DEPLOYMENT)


def test_finalizers_are_a_set() -> None:
    live = apply({}, {"metadata": {"finalizers": ["a"]}}, "m1", DEPLOYMENT)
    live = apply(live, {"metadata": {"finalizers": ["b"]}}, "m2", DEPLOYMENT)
    assert live["metadata"]["finalizers"] == ["a", "b"]
    assert owners(live)["m2"] == {"f:metadata": {"f:finalizers": {'v:"b"': {}}}}
    assert apply(live, {}, "m1", DEPLOYMENT)["metadata"]["finalizers"] == ["b"]


def test_lists_take_the_applied_order_and_keep_others_items_in_place() -> None:
    def names(obj: dict[str, Any]) -> list[str]:
        return [c["name"] for c in obj["spec"]["template"]["spec"]["containers"]]

    def template(text: str) -> dict[str, Any]:
        return pod_template(*({"name": letter} for letter in text))

    live = apply({}, template("abc"), "m1", DEPLOYMENT)
    assert names(apply(live, template("ca"), "m2", DEPLOYMENT)) == ["c", "a", "b"]
    assert names(apply(live, template("xc"), "m2", DEPLOYMENT)) == ["a", "b", "x", "c"]


def test_updating_takes_a_field_from_its_applier() -> None:
    live = apply({}, {"data": {"a": "1", "b": "1"}}, "m1", MAP)
    live = update(live, {**live, "data": {"a": "2", "b": "1"}}, updater("hand"), MAP)
    assert owners(live) == {"m1": {"f:data": {"f:b": {}}}, "hand": {"f:data": {"f:a": {}}}}
    with pytest.raises(ApiError, match=r'1 conflict: conflict with "hand" using v1: \.data\.a'):
        apply(live, {"data": {"a": "1", "b": "1"}}, "m1")
    assert plain(apply(live, {"data": {"a": "2", "b": "1"}}, "m1")) == {"data": {"a": "2", "b": "1"}}


def test_applying_to_what_was_not_tracked_respects_who_wrote_before() -> None:
    live = {"data": {"a": "1"}}
    with pytest.raises(ApiError, match='conflict with "before-first-apply" using v1'):
        apply(live, {"data": {"a": "2"}}, "m1")
    assert owners(apply(live, {"data": {"b": "2"}}, "m1")).keys() == {"before-first-apply", "m1"}


def test_kubectl_takes_over_from_its_client_side_apply() -> None:
    """But not what somebody changed since."""
    said = {"data": {"a": "1", "b": "1"}}
    note = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(said)}
    live = update({}, {**said, "metadata": {"annotations": note}}, updater("kubectl-client-side-apply"))
    taken = apply(live, {"data": {"a": "2", "b": "1"}}, "kubectl")
    assert taken["data"] == {"a": "2", "b": "1"}
    last = taken["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert json.loads(last)["data"] == {"a": "2", "b": "1"}
    changed = update(live, {**live, "data": {"a": "3", "b": "1"}}, updater("hand"))
    with pytest.raises(ApiError, match=r'conflict with "hand" using v1: \.data\.a'):
        apply(changed, {"data": {"a": "2", "b": "1"}}, "kubectl")
    with pytest.raises(ApiError, match="kubectl-client-side-apply"):
        apply(live, {"data": {"a": "2", "b": "1"}}, "other")


def test_old_updaters_become_one_entry() -> None:
    rows = ownership.updated({}, {"data": {"n": -1}}, DEDUCED, updater("first"), "")
    live: dict[str, Any] = {"data": {"n": -1}, "metadata": {"managedFields": rows}}
    for number in range(30):
        new = {**live, "data": {**live["data"], f"x{number}": number}}
        rows = ownership.updated(live, new, DEDUCED, updater(f"m{number}"), f"{number:03}")
        live = {**new, "metadata": {"managedFields": rows}}
    rows = live["metadata"]["managedFields"]
    assert len(rows) == ownership.MAX_UPDATERS
    ancient = owners(live)[ownership.ANCIENT]["f:data"]
    assert {"f:n", "f:x0", "f:x19"} <= ancient.keys()
    every = set().union(*(row["fieldsV1"]["f:data"] for row in rows)) - {"."}
    assert every == {"f:n", *(f"f:x{number}" for number in range(30))}, "nothing is forgotten"


def test_two_items_of_one_key_cannot_be_applied() -> None:
    with pytest.raises(ApiError, match=r'containers: duplicate entries for key \[name="a"\]'):
        apply({}, pod_template({"name": "a"}, {"name": "a"}), "m1", DEPLOYMENT)


@pytest.mark.parametrize("fields", [{"x:a": {}}, {"f:a": 1}, {"f:a": {"b": {}}}, []])
def test_malformed_managed_fields_are_refused(fields: Any) -> None:
    row = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsV1": fields or 7}
    with pytest.raises(ApiError) as caught:
        ownership.read([row])
    assert caught.value.code == 400


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abc")}, optional={"image": st.sampled_from("xy"), "tty": st.booleans()}
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda container: container["name"],
).map(lambda some: pod_template(*some))


@given(OBJECTS)
def test_field_sets_survive_json(obj: dict[str, Any]) -> None:
    fields = fieldset.fields_of(obj, DEDUCED)
    assert fieldset.from_json(json.loads(json.dumps(fieldset.to_json(fields)))) == fields


@given(OBJECTS, OBJECTS)
def test_a_comparison_finds_every_difference(old: dict[str, Any], new: dict[str, Any]) -> None:
    changes = fieldset.compare(old, new, DEDUCED)
    assert any((changes.added, changes.modified, changes.removed)) == (old != new or typed(old) != typed(new))
    back = fieldset.compare(new, old, DEDUCED)
    assert (changes.added, changes.modified, changes.removed) == (back.removed, back.modified, back.added)


def typed(value: Any) -> str:
    """Python takes True for 1; JSON does not."""
    return json.dumps(value, sort_keys=True)


@given(CONTAINERS, CONTAINERS, CONTAINERS)
def test_appliers_get_what_they_ask_for_and_disturb_nobody(
    first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]
) -> None:
    live = apply({}, first, "m1", DEPLOYMENT)
    live = apply(live, second, "m2", DEPLOYMENT, force=True)
    after = apply(live, third, "m1", DEPLOYMENT, force=True)
    assert fieldset.compare(after, fieldset.merged(after, third, DEPLOYMENT), DEPLOYMENT) == nothing()
    again = apply(after, third, "m1", DEPLOYMENT, now="later")
    assert again == after, "applying again changes nothing, not even a time"
    kept = fieldset.from_json(owners(after).get("m2", {}))
    assert kept <= fieldset.with_named(fieldset.fields_of(after, DEPLOYMENT), DEPLOYMENT)
    mine = fieldset.from_json(owners(live).get("m2", {}))
    taken = fieldset.compare(live, fieldset.merged(live, third, DEPLOYMENT), DEPLOYMENT)
    assert mine - taken.modified - taken.added <= kept, "m2 lost only what m1 set otherwise"


def nothing() -> fieldset.Changes:
    return fieldset.Changes(frozenset(), frozenset(), frozenset())


# --- over HTTP -------------------------------------------------------------------------------------


async def applied(call: Client, path: str, config: dict[str, Any], who: str, more: str = "") -> Answer:
    return await call("PATCH", f"{path}?fieldManager={who}{more}", config, content_type=APPLY)


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": data}


async def test_a_deployment_as_kubectl_creates_it_is_owned_as_upstream_records_it(call: Client) -> None:
    """The managedFields that `kubectl create deployment` leaves on a real cluster."""
    container = {"name": "nginx", "image": "nginx"}
    labels = {"app": "nginx"}
    body = {
        "metadata": {"name": "nginx", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    answer = await call("POST", DEPLOYMENTS, body, **{"User-Agent": "kubectl-create/v1.32"})
    (row,) = answer.body["metadata"]["managedFields"]
    assert (row["manager"], row["operation"], row["apiVersion"]) == ("kubectl-create", "Update", "apps/v1")
    labelled = {"f:labels": {".": {}, "f:app": {}}}
    assert row["fieldsV1"] == {
        "f:metadata": labelled,
        "f:spec": {
            "f:progressDeadlineSeconds": {},
            "f:replicas": {},
            "f:revisionHistoryLimit": {},
            "f:selector": {},
            "f:strategy": {
                "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
                "f:type": {},
            },
            "f:template": {
                "f:metadata": labelled,
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"nginx"}': {
                            ".": {},
                            "f:image": {},
                            "f:imagePullPolicy": {},
                            "f:name": {},
                            "f:resources": {},
                            "f:terminationMessagePath": {},
                            "f:terminationMessagePolicy": {},
                        }
                    },
                    "f:dnsPolicy": {},
                    "f:restartPolicy": {},
                    "f:schedulerName": {},
                    "f:securityContext": {},
                    "f:terminationGracePeriodSeconds": {},
                },
            },
        },
    }


async def test_what_the_server_decides_belongs_to_nobody(call: Client) -> None:
    """A Service's addresses are not the creator's: as upstream, another may not be told it conflicts."""
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}
    spec = (await call("POST", SERVICES, body)).body["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert spec == {
        "f:internalTrafficPolicy": {},
        "f:ports": {
            ".": {},
            'k:{"port":80,"protocol":"TCP"}': {
                ".": {},
                "f:port": {},
                "f:protocol": {},
                "f:targetPort": {},
            },
        },
        "f:selector": {},
        "f:sessionAffinity": {},
        "f:type": {},
    }


async def test_writers_are_told_apart_by_subresource(call: Client) -> None:
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }
    assert (await applied(call, f"{DEPLOYMENTS}/web", body, "gitops")).status == 201
    await call("PATCH", f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": 3}}, content_type=MERGE)
    refused = await applied(call, f"{DEPLOYMENTS}/web", body, "gitops")
    assert refused.status == 409
    assert refused.body["message"].endswith('with subresource "scale" using apps/v1: .spec.replicas')
    without = {**body, "spec": {key: value for key, value in body["spec"].items() if key != "replicas"}}
    kept = await applied(call, f"{DEPLOYMENTS}/web", without, "gitops")
    assert kept.body["spec"]["replicas"] == 3, "the autoscaler's number stays"
    status = {**body, "status": {"observedGeneration": 7}}
    done = await applied(call, f"{DEPLOYMENTS}/web/status", status, "operator")
    rows = {row["manager"]: row for row in done.body["metadata"]["managedFields"]}
    assert rows["operator"]["subresource"] == "status"
    assert rows["operator"]["fieldsV1"] == {"f:status": {"f:observedGeneration": {}}}
    assert done.body["spec"]["replicas"] == 3, "spec is not written through status"


async def test_apply_is_refused_where_it_is_not_meant(call: Client) -> None:
    path = f"{MAPS}/cm"
    nameless = {"kind": "ConfigMap", "data": {}}
    assert (await applied(call, path, nameless, "m1")).body["message"].startswith("Object 'ApiVersion'")
    owned = config_map()
    owned["metadata"]["managedFields"] = [{"manager": "x", "operation": "Apply"}]
    refused = await applied(call, path, owned, "m1")
    assert (refused.status, refused.body["message"]) == (400, "metadata.managedFields must be nil")
    assert (await applied(call, path, config_map(), "x" * 129)).status == 422
    missing = "/api/v1/namespaces/nowhere/configmaps/cm"
    assert (await applied(call, missing, config_map(), "m1")).status == 404


async def test_a_dry_apply_answers_and_stores_nothing(call: Client) -> None:
    path = f"{MAPS}/cm"
    dry = await applied(call, path, config_map(a="1"), "m1", "&dryRun=All")
    assert (dry.status, dry.body["data"]) == (201, {"a": "1"})
    assert (await call("GET", path)).status == 404
    await applied(call, path, config_map(a="1"), "m1")
    conflict = await applied(call, path, config_map(a="2"), "m2", "&dryRun=All")
    assert conflict.status == 409
    assert (await applied(call, path, config_map(a="2"), "m2", "&dryRun=All&force=true")).status == 200
    assert (await call("GET", path)).body["data"] == {"a": "1"}


@pytest.mark.parametrize("validation", ["Strict", "Warn", "Ignore"])
async def test_what_the_schema_does_not_declare_cannot_be_applied(call: Client, validation: str) -> None:
    wrong = {**config_map(a="1"), "bogus": 1}
    refused = await applied(call, f"{MAPS}/cm", wrong, "m1", f"&fieldValidation={validation}")
    what = "failed to create typed patch object (default/cm; /v1, Kind=ConfigMap)"
    assert refused.status == 500
    assert refused.body["message"] == f"{what}: .bogus: field not declared in schema"


async def test_the_list_of_owners_can_be_written_and_cleared(call: Client) -> None:
    path = f"{MAPS}/cm"
    made = (await applied(call, path, config_map(a="1", b="1"), "m1")).body
    rows = made["metadata"]["managedFields"]
    renamed = [{**rows[0], "manager": "m2"}]
    patched = await call("PATCH", path, {"metadata": {"managedFields": renamed}}, content_type=MERGE)
    assert [row["manager"] for row in patched.body["metadata"]["managedFields"]] == ["m2"]
    assert (await applied(call, path, config_map(a="1"), "m2")).body["data"] == {"a": "1"}
    kept = await call("PATCH", path, {"metadata": {"managedFields": []}}, content_type=MERGE)
    assert len(kept.body["metadata"]["managedFields"]) == 1, "an empty list is who does not know of it"
    cleared = await call("PATCH", path, {"metadata": {"managedFields": [{}]}}, content_type=MERGE)
    assert "managedFields" not in cleared.body["metadata"]
