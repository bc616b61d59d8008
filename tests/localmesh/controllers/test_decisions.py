"""The pure decisions of the workload controllers, on objects made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmesh.controllers import cronjob, daemons, jobwork, ordinals
from localmesh.controllers.history import HASH_LABEL, History, data_of
from localmesh.controllers.pods import time_text

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR_AGO = NOW - timedelta(hours=1)
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "x:1", "env": []}]},
}


def pod(
    name: str,
    *,
    digest: str = "old",
    ready: bool = True,
    phase: str = "Running",
    since: datetime = NOW,
    **more: Any,
) -> dict[str, Any]:
    meta = {"name": name, "uid": f"uid-{name}", "labels": {HASH_LABEL: digest}} | more
    state = {"type": "Ready", "status": str(ready), "lastTransitionTime": time_text(since)}
    return {
        "metadata": meta,
        "spec": {"nodeName": more.get("node", "a")},
        "status": {"phase": phase, "conditions": [state]},
    }


# --- DaemonSets ----------------------------------------------------------------------------------------


def daemon_set(surge: int | str = 0, unavailable: int | str = 1, **spec: Any) -> dict[str, Any]:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {
        "metadata": {"name": "web", "generation": 2},
        "spec": {"template": TEMPLATE, "updateStrategy": strategy} | spec,
    }


def nodes(*names: str) -> list[dict[str, Any]]:
    return [{"metadata": {"name": name, "labels": {}}} for name in names]


def names(plan: daemons.Plan) -> tuple[list[str], list[str]]:
    return list(plan.create), [one["metadata"]["name"] for one in plan.delete]


def test_daemons_are_replaced_as_many_at_a_time_as_may_be_unavailable() -> None:
    old = [pod("p1", node="a"), pod("p2", node="b"), pod("p3", node="c")]
    plan = daemons.plan(daemon_set(unavailable=2), nodes("a", "b", "c"), old, "new", NOW)
    assert names(plan) == ([], ["p1", "p2"])
    gone = [old[0], pod("p2", node="b", deletionTimestamp="now"), old[2]]
    assert names(daemons.plan(daemon_set(), nodes("a", "b", "c"), gone, "new", NOW)) == ([], [])
    broken = [old[0], pod("p2", node="b", ready=False), old[2]]
    plan = daemons.plan(daemon_set(), nodes("a", "b", "c"), broken, "new", NOW)
    assert names(plan) == ([], ["p2"]), "what serves nobody is replaced first"


def test_surging_daemons_begin_before_the_old_ones_end() -> None:
    surging = daemon_set(surge="50%", unavailable=0)
    old = [pod("p1", node="a"), pod("p2", node="b")]
    assert names(daemons.plan(surging, nodes("a", "b"), old, "new", NOW)) == (["a"], [])
    both = [*old, pod("q1", node="a", digest="new", ready=False)]
    assert names(daemons.plan(surging, nodes("a", "b"), both, "new", NOW)) == ([], [])
    up = [*old, pod("q1", node="a", digest="new")]
    assert names(daemons.plan(surging, nodes("a", "b"), up, "new", NOW)) == ([], ["p1"])
    slow = daemon_set(surge=1, unavailable=0, minReadySeconds=5)
    settled = [pod("p1", node="a", since=HOUR_AGO), pod("p2", node="b", since=HOUR_AGO)]
    assert names(daemons.plan(slow, nodes("a", "b"), [*settled, up[2]], "new", NOW)) == ([], [])
    assert daemons.available_later(slow, up, NOW) == pytest.approx(5.01)


def test_on_delete_daemons_wait_for_the_user() -> None:
    patient = daemon_set(updateStrategy={"type": "OnDelete"})
    assert daemons.plan(patient, nodes("a"), [pod("p1")], "new", NOW) == daemons.Plan()
    assert names(daemons.plan(patient, nodes("a"), [], "new", NOW)) == (["a"], [])


def test_daemons_are_one_to_a_node_that_wants_them() -> None:
    failed = pod("p1", phase="Failed")
    plan = daemons.plan(daemon_set(), nodes("a"), [failed], "old", NOW)
    assert (names(plan), plan.failed) == (([], ["p1"]), (failed,))
    two = [pod("p1", creationTimestamp="1"), pod("p2", creationTimestamp="2")]
    assert names(daemons.plan(daemon_set(), nodes("a"), two, "old", NOW)) == ([], ["p2"])
    tainted = nodes("a")
    tainted[0]["spec"] = {"taints": [{"key": "k", "effect": "NoSchedule"}]}
    assert names(daemons.plan(daemon_set(), tainted, two[:1], "old", NOW)) == ([], ["p1"])
    cordoned = nodes("a")
    cordoned[0]["spec"] = {"unschedulable": True}
    assert names(daemons.plan(daemon_set(), cordoned, [], "old", NOW)) == (["a"], [])
    made = daemons.pod_for(daemon_set(), "a", "new")
    made["metadata"]["name"] = "p9"
    assert daemons.node_of(made) == "a"


# --- StatefulSets ----------------------------------------------------------------------------------------


def stateful_set(replicas: int = 3, partition: int = 0, **spec: Any) -> dict[str, Any]:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    return {
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "template": TEMPLATE, "updateStrategy": strategy} | spec,
    }


def chosen(plan: ordinals.Plan) -> tuple[list[int], list[str]]:
    return list(plan.create), [one["metadata"]["name"] for one in plan.delete]


def step(wanted: dict[str, Any], *pods: dict[str, Any]) -> tuple[list[int], list[str]]:
    return chosen(ordinals.plan(wanted, pods, "new", NOW))


def test_ordered_pods_wait_for_the_ones_before() -> None:
    first = pod("web-0", digest="new")
    assert step(stateful_set()) == ([0], [])
    assert step(stateful_set(), first) == ([1], [])
    assert step(stateful_set(), pod("web-0", ready=False)) == ([], [])
    assert step(stateful_set(), pod("web-0", deletionTimestamp="now")) == ([], [])
    assert step(stateful_set(ordinals={"start": 5})) == ([5], [])
    parallel = stateful_set(podManagementPolicy="Parallel")
    assert step(parallel, pod("web-1", ready=False)) == ([0, 2], [])


def test_failed_pods_are_made_anew() -> None:
    over = pod("web-0", phase="Failed")
    plan = ordinals.plan(stateful_set(), [over], "new", NOW)
    assert (chosen(plan), plan.failed) == (([], ["web-0"]), (over,))


def test_scaling_down_takes_the_highest_and_stops_at_trouble() -> None:
    pods = [pod(f"web-{number}", digest="new") for number in range(4)]
    assert step(stateful_set(1), *pods) == ([], ["web-3"])
    assert step(stateful_set(1), *pods[:3], pod("web-3", deletionTimestamp="now")) == ([], [])
    one_ill = [pods[0], pod("web-1", ready=False), pods[2]]
    assert step(stateful_set(1), *one_ill) == ([], ["web-2"])
    two_ill = [pods[0], pod("web-1", ready=False), pod("web-2", ready=False)]
    assert step(stateful_set(1), *two_ill) == ([], [])
    assert step(stateful_set(0, podManagementPolicy="Parallel"), *pods[:2]) == ([], ["web-1", "web-0"])


def test_an_update_goes_from_the_top_down_to_the_partition() -> None:
    old = [pod(f"web-{number}") for number in range(3)]
    assert step(stateful_set(partition=2), *old) == ([], ["web-2"])
    assert step(stateful_set(), *old[:2], pod("web-2", digest="new", ready=False)) == ([], [])
    assert step(stateful_set(partition=2), *old[:2], pod("web-2", digest="new")) == ([], [])
    assert step(stateful_set(), *old[:2], pod("web-2", digest="new")) == ([], ["web-1"])
    assert step(stateful_set(updateStrategy={"type": "OnDelete"}), *old) == ([], [])


def test_a_pod_below_the_partition_is_of_the_revision_the_set_comes_from() -> None:
    def revision(name: str, image: str) -> dict[str, Any]:
        spec = {"containers": [{"name": "c", "image": image}]}
        return {"metadata": {"name": name}, "data": data_of(TEMPLATE | {"spec": spec})}

    old, new = revision("web-old", "x:1"), revision("web-new", "x:2")
    history = History((old, new), new)
    wanted = stateful_set(partition=1) | {"status": {"currentRevision": "web-old"}}
    images = [ordinals.pod_for(wanted, n, history)["spec"]["containers"][0]["image"] for n in (0, 1)]
    assert images == ["x:1", "x:2"]
    lost = wanted | {"status": {"currentRevision": "web-lost"}}
    assert ordinals.pod_for(lost, 0, history)["metadata"]["labels"][HASH_LABEL] == "web-new"


# --- Jobs -------------------------------------------------------------------------------------------------


def job(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    wanted = {"completions": 1, "parallelism": 1, "backoffLimit": 6, "template": TEMPLATE} | spec
    return {"metadata": {"name": "work"}, "spec": wanted, "status": status or {}}


def tracked(name: str, phase: str = "Running", **more: Any) -> dict[str, Any]:
    return pod(name, phase=phase, finalizers=[jobwork.TRACKING], creationTimestamp=time_text(NOW), **more)


def test_a_finished_pod_is_counted_in_three_steps() -> None:
    done = tracked("p", "Succeeded")
    first = jobwork.work(job(), [done], NOW)
    assert first.status["uncountedTerminatedPods"] == {"succeeded": ["uid-p"]}
    assert (first.untrack, "succeeded" in first.status) == ([done], False)
    freed = pod("p", phase="Succeeded")
    second = jobwork.work(job(first.status), [freed], NOW)
    assert (second.status["uncountedTerminatedPods"], second.status["succeeded"]) == ({}, 1)
    kinds = [one["type"] for one in second.status["conditions"]]
    assert kinds == ["SuccessCriteriaMet", "Complete"]
    assert second.events == [("Normal", "Completed", "Job completed")]
    assert jobwork.work(job(first.status), [], NOW).status["succeeded"] == 1, "deleted meanwhile"


def test_tries_are_spaced_out() -> None:
    ended = pod("p", phase="Failed", creationTimestamp=time_text(NOW))
    step = jobwork.work(job({"failed": 1}), [ended], NOW + timedelta(seconds=4))
    assert (step.create, step.after) == ([], pytest.approx(6.0))
    again = [ended, pod("q", phase="Failed", creationTimestamp=time_text(NOW))]
    assert jobwork.work(job({"failed": 2}), again, NOW).after == pytest.approx(20.0)
    assert jobwork.work(job({"failed": 1}), [ended], NOW + timedelta(seconds=10)).create == [None]


def test_the_deadline_ends_a_job_and_its_pods() -> None:
    running = tracked("p")
    late = job({"startTime": time_text(NOW - timedelta(seconds=30))}, activeDeadlineSeconds=30)
    step = jobwork.work(late, [running], NOW)
    assert step.kill == [running]
    (condition,) = step.status["conditions"]
    assert (condition["type"], condition["reason"]) == ("FailureTarget", "DeadlineExceeded")
    early = jobwork.work(job(activeDeadlineSeconds=30), [running], NOW)
    assert early.after == pytest.approx(30.01)


def test_restarts_of_a_container_count_as_tries() -> None:
    restless = tracked("p")
    restless["status"]["containerStatuses"] = [{"name": "c", "restartCount": 2}]
    template = TEMPLATE | {"spec": {"restartPolicy": "OnFailure", "containers": []}}
    step = jobwork.work(job(backoffLimit=2, template=template), [restless], NOW)
    assert step.kill == [restless]
    assert jobwork.work(job(backoffLimit=3, template=template), [restless], NOW).kill == []


def test_fewer_wanted_pods_are_taken_away_uncounted() -> None:
    pods = [tracked("p"), tracked("q", ready=False)]
    step = jobwork.work(job(completions=5, parallelism=1), pods, NOW)
    assert [one["metadata"]["name"] for one in step.drop] == ["q"]
    assert step.untrack == []


def test_a_work_queue_ends_when_all_its_pods_have() -> None:
    queue = job(completions=None, parallelism=2)
    assert jobwork.work(queue, [], NOW).create == [None, None]
    half = [pod("p", phase="Succeeded"), tracked("q")]
    begun = job({"succeeded": 1}, completions=None, parallelism=2)
    assert jobwork.work(begun, half, NOW).create == [], "no new worker once one has found nothing left"
    step = jobwork.work(begun, half[:1], NOW)
    assert [one["type"] for one in step.status["conditions"]] == ["SuccessCriteriaMet", "Complete"]


def test_indexed_jobs_run_every_index_once() -> None:
    def of(index: int, phase: str = "Running", name: str = "") -> dict[str, Any]:
        annotations = {jobwork.INDEX: str(index)}
        return tracked(name or f"p{index}", phase, annotations=annotations)

    indexed = {"completionMode": "Indexed", "completions": 4, "parallelism": 2}
    assert jobwork.work(job(**indexed), [], NOW).create == [0, 1]
    step = jobwork.work(job(**indexed), [of(0, "Succeeded"), of(1)], NOW)
    assert (step.create, step.status["completedIndexes"], step.status["succeeded"]) == ([2], "0", 1)
    twice = jobwork.work(job(**indexed), [of(1), of(1, name="twin")], NOW)
    assert len(twice.drop) == 1
    made = jobwork.pod_for(job(**indexed), 3)
    assert (made["spec"]["hostname"], made["metadata"]["generateName"]) == ("work-3", "work-3-")
    assert [one["name"] for one in made["spec"]["containers"][0]["env"]] == ["JOB_COMPLETION_INDEX"]


@given(st.sets(st.integers(0, 60)))
def test_index_lists_read_back(indexes: set[int]) -> None:
    assert jobwork.read_indexes(jobwork.write_indexes(indexes)) == indexes


def test_index_lists_are_written_as_upstream_does() -> None:
    assert jobwork.write_indexes({0, 1, 3, 5, 6, 7}) == "0,1,3,5-7"


# --- CronJobs ----------------------------------------------------------------------------------------------


def cron_job(last: datetime = NOW, **spec: Any) -> dict[str, Any]:
    wanted = {"schedule": "*/10 * * * *", "jobTemplate": {"spec": {"template": TEMPLATE}}} | spec
    return {
        "metadata": {"name": "tick", "uid": "u", "creationTimestamp": time_text(last)},
        "spec": wanted,
    }


def test_the_clock_says_what_is_due() -> None:
    at = NOW + timedelta(minutes=10)
    assert cronjob.due(cron_job(), NOW) == cronjob.Due(None, 600.05)
    assert cronjob.due(cron_job(), at) == cronjob.Due(at, 600.05)
    assert cronjob.due(cron_job(suspend=True), at) == cronjob.Due(None, None)
    late = at + timedelta(minutes=5)
    assert cronjob.due(cron_job(), late).at == at, "made up for"
    assert cronjob.due(cron_job(startingDeadlineSeconds=60), late).at is None
    assert cronjob.due(cron_job(NOW - timedelta(days=30)), at).too_many


def test_a_scheduled_job_has_a_name_of_its_time() -> None:
    made = cronjob.job_for(cron_job(timeZone="Europe/Berlin"), NOW)
    assert made["metadata"]["name"] == f"tick-{int(NOW.timestamp()) // 60}"
    assert made["metadata"]["annotations"][cronjob.SCHEDULED_AT] == "2026-01-01T13:00:00+01:00"


def test_only_so_many_ended_jobs_are_kept() -> None:
    def ended(number: int, kind: str) -> dict[str, Any]:
        condition = {"type": kind, "status": "True"}
        status = {"startTime": f"2026-01-01T00:{number:02}:00Z", "conditions": [condition]}
        return {"metadata": {"name": f"{kind}-{number}"}, "status": status}

    jobs = [ended(number, kind) for number in range(5) for kind in ("Complete", "Failed")]
    found = [one["metadata"]["name"] for one in cronjob.superfluous(cron_job(), jobs)]
    assert found == ["Complete-0", "Complete-1", *(f"Failed-{number}" for number in range(4))]
