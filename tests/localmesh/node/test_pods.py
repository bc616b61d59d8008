"""Pods as real processes (loopback mode): order, probes, restarts, volumes, termination, logs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localmesh.apiserver.errors import ApiError
from localmesh.node.process import CONTAINER_MARK, find_marked
from localmesh.streams.contract import Place
from tests.localmesh.cluster_kit import container, pod, wait_until
from tests.localmesh.node.conftest import Node


def shell(script: str, name: str = "c", **more: Any) -> dict[str, Any]:
    return container(name, "sh", command=["sh", "-c", script], **more)


def shell_pod(name: str, script: str, **spec: Any) -> dict[str, Any]:
    more = {key: spec.pop(key) for key in list(spec) if key in CONTAINER_FIELDS}
    return pod(name, containers=[shell(script, **more)], **{"terminationGracePeriodSeconds": 2, **spec})


CONTAINER_FIELDS = {
    "env",
    "envFrom",
    "readinessProbe",
    "livenessProbe",
    "startupProbe",
    "lifecycle",
    "volumeMounts",
}
FOREVER = "exec sleep 1000"


async def test_pod_runs_and_its_end_is_recorded(node: Node) -> None:
    await node.run(shell_pod("p", "echo hello; echo oops >&2; exit 3", restartPolicy="Never"))
    await node.wait_phase("p", "Failed")
    ended = node.container("p")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    text = await node.log("p")
    assert sorted(text.split()) == ["hello", "oops"]
    await node.run(shell_pod("q", "true", restartPolicy="OnFailure"))
    await node.wait_phase("q", "Succeeded")


async def test_signal_ends_as_128_plus_number(node: Node) -> None:
    await node.run(shell_pod("p", "kill -9 $$$$", restartPolicy="Never"))
    await node.wait_phase("p", "Failed")
    ended = node.container("p")["state"]["terminated"]
    assert (ended["exitCode"], ended["signal"]) == (137, 9)


async def test_init_containers_run_in_order_and_sidecars_around_the_app(node: Node) -> None:
    started = {"exec": {"command": ["sh", "-c", "test -e $MARK"]}, "periodSeconds": 1}
    mark = str(node.pods_dir / "mark")
    obj = pod(
        "p",
        restartPolicy="Never",
        terminationGracePeriodSeconds=2,
        initContainers=[
            shell("echo one >> $OUT", "one", env=[{"name": "OUT", "value": mark + ".log"}]),
            shell(
                "trap 'echo side-end >> $OUT; exit 0' TERM; echo side >> $OUT; touch $MARK; "
                "while :; do sleep 0.01; done",
                "side",
                restartPolicy="Always",
                startupProbe=started,
                env=[{"name": "OUT", "value": mark + ".log"}, {"name": "MARK", "value": mark}],
            ),
            shell("test -e $MARK && echo two >> $OUT", "two", env=[
                {"name": "OUT", "value": mark + ".log"}, {"name": "MARK", "value": mark}]),
        ],
        containers=[shell("echo app >> $OUT", env=[{"name": "OUT", "value": mark + ".log"}])],
    )  # fmt: skip
    await node.run(obj)
    await node.wait_phase("p", "Succeeded")
    lines = (node.pods_dir / "mark.log").read_text().split()
    assert lines == ["one", "side", "two", "app", "side-end"]


async def test_failed_init_container_fails_the_pod_for_good(node: Node) -> None:
    obj = pod(
        "p", restartPolicy="Never", initContainers=[shell("exit 1", "init")], containers=[shell(FOREVER)]
    )
    await node.run(obj)
    await node.wait_phase("p", "Failed")
    assert "waiting" in node.container("p")["state"]


async def test_crash_is_restarted_with_back_off_and_previous_log(node: Node) -> None:
    await node.run(shell_pod("p", "echo run; exit 1"))
    await wait_until(lambda: node.container("p").get("restartCount", 0) >= 1, "a restart")
    await wait_until(
        lambda: node.container("p")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff",
        "back-off",
    )
    assert node.container("p")["lastState"]["terminated"]["exitCode"] == 1
    assert await node.log("p", previous=True) == "run\n"
    await wait_until(lambda: "BackOff" in node.reasons(), "event")


async def test_readiness_follows_the_probe(node: Node) -> None:
    mark = node.pods_dir / "ready"
    probe = {"exec": {"command": ["test", "-e", str(mark)]}, "periodSeconds": 1, "failureThreshold": 1}
    await node.run(shell_pod("p", FOREVER, readinessProbe=probe))
    await node.wait_phase("p", "Running")
    assert not node.is_ready("p")
    mark.touch()
    await node.wait_ready("p")
    mark.unlink()
    await wait_until(lambda: not node.is_ready("p"), "unready again")


async def test_failed_liveness_restarts_the_container(node: Node) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    await node.run(shell_pod("p", FOREVER, livenessProbe=probe))
    await wait_until(lambda: node.container("p").get("restartCount") == 1, "a restart")
    assert node.container("p")["lastState"]["terminated"]["exitCode"] == 143
    await wait_until(lambda: {"Unhealthy", "Killing"} <= node.reasons(), "events")


async def test_http_and_tcp_probes_reach_the_pod_address(node: Node) -> None:
    server = ["python", "-m", "http.server", "--bind", "$(POD_IP)", "18080"]
    env = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    ports = [{"name": "http", "containerPort": 18080}]
    probes = {"startupProbe": {"tcpSocket": {"port": 18080}}, "readinessProbe": {"httpGet": {"port": "http"}}}
    await node.run(
        pod("p", containers=[container("c", "python", command=server, env=env, ports=ports, **probes)])
    )
    await node.wait_ready("p")


async def test_environment_comes_from_everywhere(node: Node) -> None:
    await node.api.create("configmaps", "default", {"metadata": {"name": "cm"}, "data": {"A": "1", "B": "2"}})
    await node.api.create("secrets", "default", {"metadata": {"name": "s"}, "data": {"K": "c2VjcmV0"}})
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "K"}}},
        {"name": "BOTH", "value": "$(NAME)-$(X_A)-$$(NAME)-$(NOPE)"},
    ]
    sources = [{"prefix": "X_", "configMapRef": {"name": "cm"}}]
    await node.run(shell_pod("p", 'echo "$BOTH $KEY $X_B"', env=env, envFrom=sources, restartPolicy="Never"))
    await node.wait_phase("p", "Succeeded")
    assert await node.log("p") == "p-1-$(NAME)-$(NOPE) secret 2\n"


async def test_missing_config_is_waited_for_and_named(node: Node) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "a"}}}]
    await node.run(shell_pod("p", 'echo "$A"', env=env, restartPolicy="Never"))
    await wait_until(
        lambda: (
            node.container("p").get("state", {}).get("waiting", {}).get("reason")
            == "CreateContainerConfigError"
        ),
        "named problem",
    )
    assert "'later' not found" in node.container("p")["state"]["waiting"]["message"]
    await node.api.create("configmaps", "default", {"metadata": {"name": "later"}, "data": {"a": "now"}})
    await node.wait_phase("p", "Succeeded")
    assert await node.log("p") == "now\n"


async def test_unknown_image_says_how_to_add_it_and_starts_once_added(node: Node) -> None:
    await node.run(pod("p", restartPolicy="Never", containers=[container(image="nginx:1.27")]))
    await wait_until(
        lambda: node.container("p").get("state", {}).get("waiting", {}).get("reason") == "ErrImagePull",
        "ErrImagePull",
    )
    message = node.container("p")["state"]["waiting"]["message"]
    assert "kubectl -n kube-system create configmap localmesh-images" in message
    data = {"images": "nginx: {command: [echo, i am nginx]}"}
    await node.api.create(
        "configmaps", "kube-system", {"metadata": {"name": "localmesh-images"}, "data": data}
    )
    await node.wait_phase("p", "Succeeded")
    assert await node.log("p") == "i am nginx\n"


async def test_volumes_are_real_directories_and_follow_their_source(node: Node) -> None:
    await node.api.create("configmaps", "default", {"metadata": {"name": "cm"}, "data": {"a": "1"}})
    volumes = [
        {"name": "config", "configMap": {"name": "cm"}},
        {"name": "work", "emptyDir": {}},
        {"name": "token", "projected": {"sources": [
            {"serviceAccountToken": {"audience": "smi-mesh-ca", "path": "token", "expirationSeconds": 600}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}},
    ]  # fmt: skip
    mounts = [
        {"name": "config", "mountPath": "/etc/config"},
        {"name": "work", "mountPath": "/work"},
        {"name": "token", "mountPath": "/var/run/secrets/tokens"},
    ]
    env = [
        {"name": "CONFIG", "value": "/etc/config/a"},
        {"name": "TOKEN", "value": "/var/run/secrets/tokens/token"},
        {"name": "SAID", "value": "/work/said"},
    ]
    say = 'cat "$CONFIG"; echo; cat "$TOKEN"; echo; : >"$SAID"; '
    script = say + 'until [ "$(cat $CONFIG)" = 2 ]; do sleep 0.05; done'
    obj = pod("p", {"app": "x"}, restartPolicy="Never", volumes=volumes, containers=[
        shell(script, env=env, volumeMounts=mounts)])  # fmt: skip
    created = await node.run(obj)
    await node.wait_phase("p", "Running")
    place = node.pods_dir / created["metadata"]["uid"] / "volumes"
    assert (place / "token" / "labels").read_text() == 'app="x"'
    await wait_until((place / "work" / "said").exists, "what it read at first is said")
    await node.api.patch("configmaps", "default", "cm", {"data": {"a": "2"}})
    await node.wait_phase("p", "Succeeded")
    assert await node.log("p") == "1\ndefault/default/smi-mesh-ca/p/1\n"


async def test_service_account_is_reachable_by_kubeconfig(node: Node) -> None:
    await node.run(shell_pod("p", 'cat "$KUBECONFIG"', restartPolicy="Never"))
    await node.wait_phase("p", "Succeeded")
    text = await node.log("p")
    assert "server: https://127.0.0.1:6443" in text
    assert "tokenFile: " in text


async def test_deletion_gives_grace_then_kills_the_whole_group(node: Node) -> None:
    script = "trap '' TERM; sleep 1000 & echo up; wait; sleep 1000"
    created = await node.run(shell_pod("p", script, terminationGracePeriodSeconds=1))
    await node.wait_ready("p")
    mark = {CONTAINER_MARK: f"{created['metadata']['uid']}/c"}
    assert find_marked(mark)
    await node.api.delete("pods", "default", "p")
    await wait_until(lambda: node.api.peek("pods", "default", "p") is None, "pod gone")
    assert find_marked(mark) == []
    assert not (node.pods_dir / created["metadata"]["uid"]).exists()


async def test_processes_that_left_the_group_are_found_by_their_mark(node: Node) -> None:
    created = await node.run(shell_pod("p", f"setsid sleep 1000 & {FOREVER}"))
    await node.wait_ready("p")
    mark = {CONTAINER_MARK: f"{created['metadata']['uid']}/c"}
    await wait_until(lambda: len(find_marked(mark)) == 2, "both processes")
    await node.api.delete("pods", "default", "p", grace_seconds=0)
    await wait_until(lambda: find_marked(mark) == [], "both gone")


async def test_prestop_hook_runs_before_the_signal(node: Node) -> None:
    out = node.pods_dir / "out"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", f"echo hook >> {out}"]}}}
    script = f"trap 'echo term >> {out}; exit 0' TERM; touch {out}.up; while :; do sleep 0.01; done"
    await node.run(shell_pod("p", script, lifecycle=hook))
    await wait_until((node.pods_dir / "out.up").exists, "the trap is set")
    await node.wait_ready("p")
    await node.api.delete("pods", "default", "p")
    await wait_until(lambda: node.api.peek("pods", "default", "p") is None, "pod gone")
    assert out.read_text().split() == ["hook", "term"]


async def test_logs_can_be_followed_cut_and_stamped(node: Node) -> None:
    await node.run(
        shell_pod("p", "for i in 1 2 3; do echo $i; sleep 0.05; done; sleep 0.2", restartPolicy="Never")
    )
    await node.wait_phase("p", "Running")
    assert await node.log("p", follow=True) == "1\n2\n3\n"
    assert await node.log("p", tail=1) == "3\n"
    stamped = await node.log("p", tail=1, timestamps=True)
    assert stamped.endswith("Z 3\n")
    with pytest.raises(ApiError, match="not valid for pod"):
        await node.log("p", "nobody")
    with pytest.raises(ApiError, match="previous terminated"):
        await node.log("p", previous=True)


async def test_exec_runs_in_the_container(node: Node) -> None:
    await node.run(shell_pod("p", FOREVER, env=[{"name": "WHO", "value": "me"}]))
    await node.wait_ready("p")
    inside = node.agent.container(Place("default", "p", "c"))
    assert inside is not None
    assert await inside.execute(["sh", "-c", "echo $WHO; exit 4"], 10) == (4, b"me\n")


async def test_command_that_does_not_exist_is_explained(node: Node) -> None:
    await node.run(pod("p", restartPolicy="Never", containers=[container(command=["no-such-program"])]))
    await node.wait_phase("p", "Failed")
    ended = node.container("p")["state"]["terminated"]
    assert ended["exitCode"] == 127
    assert "no-such-program" in ended["message"]


async def test_conditions_tell_what_is_missing(node: Node) -> None:
    gate = {"readinessGates": [{"conditionType": "example.com/gate"}]}
    await node.run(shell_pod("p", FOREVER, **gate))
    await node.wait_phase("p", "Running")

    def conditions() -> dict[str, str]:
        return {item["type"]: item["status"] for item in node.status("p").get("conditions") or ()}

    await wait_until(lambda: conditions().get("ContainersReady") == "True", "containers ready")
    assert conditions()["Ready"] == "False"
    own = node.status("p")["conditions"]
    gate_condition = {"type": "example.com/gate", "status": "True"}
    await node.api.patch(
        "pods", "default", "p", {"status": {"conditions": [*own, gate_condition]}}, subresource="status"
    )
    await wait_until(lambda: conditions().get("Ready") == "True", f"ready: {json.dumps(conditions())}")
    assert conditions()["example.com/gate"] == "True"


async def test_a_pod_waits_for_a_node_that_fits(node: Node) -> None:
    await node.run(shell_pod("p", FOREVER, nodeSelector={"disk": "ssd"}))

    def scheduled(name: str = "p") -> dict[str, Any]:
        conditions = node.status(name).get("conditions") or ()
        return next((dict(one) for one in conditions if one["type"] == "PodScheduled"), {})

    await wait_until(lambda: scheduled().get("reason") == "Unschedulable", "the reason")
    assert "didn't match Pod's node affinity/selector" in scheduled()["message"]
    await wait_until(lambda: "FailedScheduling" in node.reasons(), "an event")
    await node.api.patch("nodes", None, "local", {"metadata": {"labels": {"disk": "ssd"}}})
    await node.wait_ready("p")
    assert scheduled()["status"] == "True"
    await node.api.patch("nodes", None, "local", {"spec": {"unschedulable": True}})
    await node.run(shell_pod("q", FOREVER))
    await wait_until(lambda: "uncordon" in scheduled("q").get("message", ""), "what to do about it")
    await node.api.patch("nodes", None, "local", {"spec": {"unschedulable": None}})
    await node.wait_ready("q")


async def test_node_is_registered_with_addresses_and_lease(node: Node) -> None:
    obj = await node.api.get("nodes", None, "local")
    assert any(c["type"] == "Ready" and c["status"] == "True" for c in obj["status"]["conditions"])
    await wait_until(lambda: node.api.peek("leases.coordination.k8s.io", "kube-node-lease", "local"), "lease")
