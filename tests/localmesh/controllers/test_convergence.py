"""The decisions against worlds that do as they please: they converge, and keep within bounds on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from localmesh.controllers import daemons, jobwork, ordinals
from localmesh.controllers.history import HASH_LABEL, History, data_of
from localmesh.controllers.pods import time_text

TEMPLATE: dict[str, Any] = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}
START = datetime(2026, 1, 1, tzinfo=UTC)
UNREST, LONG = 20, 80
"""Steps while something may happen, and more than any world needs to come to rest afterwards."""
fate = st.lists(st.integers(0, 7), max_size=UNREST)
"""What happens to pods between the controller's steps; 0 is nothing."""


@dataclass
class World:
    """Pods by name, and a clock that passes an hour at each step: no back-off is left."""

    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    now: datetime = START
    made: int = 0

    def add(self, pod: dict[str, Any], name: str = "", **spec: Any) -> None:
        self.made += 1
        name = name or f"p{self.made}"
        meta = {**pod["metadata"], "name": name, "uid": f"u{self.made}"}
        meta["creationTimestamp"] = time_text(self.now + timedelta(seconds=self.made))
        status = {"phase": "Running", "conditions": []}
        self.pods[name] = {"metadata": meta, "spec": {**pod["spec"], **spec}, "status": status}

    def ready(self, name: str) -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": time_text(self.now)}
        self.pods[name]["status"]["conditions"] = [condition]

    def unready(self, name: str) -> None:
        self.pods[name]["status"]["conditions"] = []

    def begin_deletion(self, name: str) -> None:
        if name in self.pods:
            self.pods[name]["metadata"]["deletionTimestamp"] = "now"

    def reap(self) -> None:
        """The node ends what is being deleted; what a finalizer holds stays."""
        for name, pod in list(self.pods.items()):
            if "deletionTimestamp" in pod["metadata"] and not pod["metadata"].get("finalizers"):
                del self.pods[name]

    def running(self) -> list[str]:
        return [
            name
            for name, pod in self.pods.items()
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def all(self) -> list[dict[str, Any]]:
        return list(self.pods.values())


# --- Jobs -------------------------------------------------------------------------------------------------


@given(fate, st.sets(st.integers(0, UNREST)), st.integers(1, 4), st.integers(1, 3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_job_counts_every_pod_once(
    events: list[int], crashes: set[int], completions: int, parallelism: int, indexed: bool
) -> None:
    mode = "Indexed" if indexed else "NonIndexed"
    spec = {"completions": completions, "parallelism": parallelism, "completionMode": mode}
    job: dict[str, Any] = {
        "metadata": {"name": "work"},
        "spec": {**spec, "backoffLimit": 1000, "template": TEMPLATE},
        "status": {},
    }
    world, succeeded, failed = World(), list[str](), set[str]()
    script = iter(events)
    for number in range(LONG):
        step = jobwork.work(job, world.all(), world.now)
        job["status"] = step.status
        if number in crashes:  # the controller ends between two writes, and another takes over
            continue
        for pod in [*step.untrack, *step.drop]:
            pod["metadata"].pop("finalizers", None)
        for pod in [*step.drop, *step.kill]:
            world.begin_deletion(pod["metadata"]["name"])
        for index in step.create:
            world.add(jobwork.pod_for(job, index))
        assert len(world.running()) <= parallelism
        if jobwork.end_of(job) is not None:
            break
        world.now += timedelta(hours=1)
        event = next(script, 1)
        running = world.running()
        if event in (1, 2) and running:
            name = running[event % len(running)]
            world.pods[name]["status"]["phase"] = "Succeeded"
            succeeded.append(name)
        elif event == 3 and running:
            world.pods[running[0]]["status"]["phase"] = "Failed"
            failed.add(running[0])
        elif event == 4 and running:  # somebody deletes it while it works
            world.begin_deletion(running[-1])
            failed.add(running[-1])
        elif event == 5:  # or after its end
            for name, pod in world.pods.items():
                if pod["status"]["phase"] != "Running":
                    world.begin_deletion(name)
        if event != 6:  # the node may be late
            world.reap()
    end = jobwork.end_of(job)
    assert end is not None
    assert end["type"] == "Complete"
    status = job["status"]
    assert status["succeeded"] == completions == len(succeeded)
    assert status.get("failed", 0) == len(failed)
    assert status["uncountedTerminatedPods"] == {}
    assert all("finalizers" not in pod["metadata"] for pod in world.all())
    if indexed:
        assert jobwork.read_indexes(status["completedIndexes"]) == set(range(completions))


# --- StatefulSets -----------------------------------------------------------------------------------------


@given(fate, st.integers(0, 4), st.integers(0, 4), st.integers(0, 2), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_statefulset_comes_to_what_is_wanted(
    events: list[int], before: int, after: int, partition: int, parallel: bool
) -> None:
    def revision(name: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "data": data_of(TEMPLATE)}

    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    stateful_set: dict[str, Any] = {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": before,
            "template": TEMPLATE,
            "updateStrategy": strategy,
            "podManagementPolicy": "Parallel" if parallel else "OrderedReady",
        },
        "status": {},
    }
    world, history = World(), History((revision("old"),), revision("old"))
    script = iter(events)
    for number in range(LONG):
        if number == UNREST // 2:
            history = History((revision("old"), revision("new")), revision("new"))
            stateful_set["spec"]["replicas"] = after
        plan = ordinals.plan(stateful_set, world.all(), history.name, world.now)
        for pod in plan.delete:
            world.begin_deletion(pod["metadata"]["name"])
        for ordinal in plan.create:
            world.add(ordinals.pod_for(stateful_set, ordinal, history), f"web-{ordinal}")
        if not parallel:
            assert len(plan.create) + len(plan.delete) <= 1, "one at a time"
        stateful_set["status"] = ordinals.status(stateful_set, world.all(), history, world.now)
        world.now += timedelta(hours=1)
        event, running = next(script, 1), world.running()
        if event == 3 and running:
            world.unready(running[-1])
        elif event == 4 and running:
            world.begin_deletion(running[0])
        elif event == 5 and running:
            world.pods[running[0]]["status"]["phase"] = "Failed"
        else:
            for name in running:
                world.ready(name)
        world.reap()
    assert sorted(world.pods) == [f"web-{ordinal}" for ordinal in range(after)]
    status = stateful_set["status"]
    assert status.get("readyReplicas", 0) == after
    assert status.get("updatedReplicas", 0) >= max(0, after - partition)
    if partition == 0 and after:
        assert status["currentRevision"] == status["updateRevision"] == "new"


# --- DaemonSets -------------------------------------------------------------------------------------------


@given(fate, st.integers(1, 4), st.integers(0, 2), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_a_daemonset_stays_within_its_bounds(
    events: list[int], count: int, surge: int, unavailable: int
) -> None:
    rolling = {"maxSurge": surge, "maxUnavailable": 0 if surge else unavailable}
    daemon_set: dict[str, Any] = {
        "metadata": {"name": "web"},
        "spec": {"template": TEMPLATE, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}},
    }
    nodes = [{"metadata": {"name": f"n{number}", "labels": {}}} for number in range(count)]
    world, script = World(), iter(events)
    most = daemons.bounds(daemon_set, count)[1]
    for number in range(LONG):
        rolling_out = number >= UNREST + 10
        digest = "new" if rolling_out else "old"
        plan = daemons.plan(daemon_set, nodes, world.all(), digest, world.now)
        for pod in plan.delete:
            world.begin_deletion(pod["metadata"]["name"])
        for node in plan.create:
            world.add(daemons.pod_for(daemon_set, node, digest), nodeName=node)
        if rolling_out:
            served = {world.pods[name]["spec"]["nodeName"] for name in world.running()}
            assert count - len(served) <= most, "no more nodes without a pod than may be"
        world.now += timedelta(hours=1)
        event, running = next(script, 1), world.running()
        if event == 3 and running:
            world.unready(running[0])
        elif event == 4 and running:
            world.begin_deletion(running[0])
        elif event == 5 and running:
            world.pods[running[0]]["status"]["phase"] = "Failed"
        else:
            for name in running:
                world.ready(name)
        world.reap()
    assert len(world.pods) == count
    assert all(pod["metadata"]["labels"][HASH_LABEL] == "new" for pod in world.all())
    status = daemons.status(daemon_set, nodes, world.all(), digest, world.now)
    assert (status["numberAvailable"], status["updatedNumberScheduled"]) == (count, count)
