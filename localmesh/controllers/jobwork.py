"""Job decisions: what has succeeded and failed, how many pods to run now, when it is over. Pure, clock given.

Follows the upstream job controller in behaviour: finished pods are counted once with the help of a finalizer,
so that one that is deleted after its end still counts. The order of a count is: uid into
`status.uncountedTerminatedPods`, finalizer off the pod, uid out of the list and into the counter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from localmesh.controllers.pods import (
    deletion_rank,
    is_finished,
    is_ready,
    is_terminating,
    parse_time,
    phase,
    pod_from_template,
    time_text,
)

Json = Mapping[str, Any]
TRACKING: Final = "batch.kubernetes.io/job-tracking"
INDEX: Final = "batch.kubernetes.io/job-completion-index"
OURS: Final = "kubernetes.io/job-controller"
BACKOFF_FIRST_S: Final = 10.0
BACKOFF_MAX_S: Final = 600.0
Verdict = tuple[str, str, str]
"""(condition type that comes first, reason, message)."""
_REACHED: Final = ("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")
_LIMIT: Final = ("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
_DEADLINE: Final = ("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline")
_FINAL: Final = {"SuccessCriteriaMet": "Complete", "FailureTarget": "Failed"}


@dataclass(slots=True)
class Step:
    """What to do now, in this order: events, status, pods."""

    status: dict[str, Any]
    create: list[int | None] = field(default_factory=list)
    """Completion indexes; None for a job without them."""
    drop: list[Json] = field(default_factory=list)
    """Pods to delete that count for nothing (the job wants fewer, or is suspended)."""
    kill: list[Json] = field(default_factory=list)
    """Pods to delete because the job is decided."""
    untrack: list[Json] = field(default_factory=list)
    """Counted pods that need the finalizer no more."""
    events: list[tuple[str, str, str]] = field(default_factory=list)
    """(type, reason, message)."""
    after: float | None = None
    """Seconds until the clock alone may change something."""


def is_indexed(job: Json) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def is_tracked(pod: Json) -> bool:
    return TRACKING in (pod["metadata"].get("finalizers") or ())


def condition_of(job: Json, kind: str) -> Json | None:
    """The condition of that type if it is True."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)


def end_of(job: Json) -> Json | None:
    """The condition Complete or Failed, once the job has ended."""
    return condition_of(job, "Complete") or condition_of(job, "Failed")


def expires_in(job: Json, now: datetime) -> float | None:
    """Seconds until `ttlSecondsAfterFinished` removes the ended job; None when it stays."""
    ttl, end = job["spec"].get("ttlSecondsAfterFinished"), end_of(job)
    ended = parse_time(end["lastTransitionTime"]) if end is not None else None
    if ttl is None or ended is None:
        return None
    return max(0.0, int(ttl) - (now - ended).total_seconds())


def pod_for(job: Json, index: int | None) -> dict[str, Any]:
    """A pod of the job, tracked; an indexed one learns its index in four ways."""
    name = job["metadata"]["name"]
    pod = pod_from_template(
        job["spec"]["template"], prefix=f"{name}-" if index is None else f"{name}-{index}-"
    )
    meta, spec = pod["metadata"], pod["spec"]
    meta["finalizers"] = [TRACKING]
    if index is None:
        return pod
    meta["labels"][INDEX] = meta["annotations"][INDEX] = str(index)
    spec["hostname"] = f"{name}-{index}"
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{INDEX}']"}}
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [_with_env(one, "JOB_COMPLETION_INDEX", source) for one in spec[key]]
    return pod


def _with_env(container: Json, name: str, source: Json) -> dict[str, Any]:
    env = container.get("env") or []
    known = any(one["name"] == name for one in env)
    return {**container, "env": env if known else [*env, {"name": name, "valueFrom": source}]}


def index_of(pod: Json) -> int | None:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isascii() and text.isdigit() else None


def read_indexes(text: str) -> set[int]:
    """A list like 0,2-4 as a set."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def write_indexes(indexes: Iterable[int]) -> str:
    """The other way round; runs of three and more become a range."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    shown = [
        str(first) if first == last else f"{first},{last}" if last == first + 1 else f"{first}-{last}"
        for first, last in runs
    ]
    return ",".join(shown)


# --- counting ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Count:
    succeeded: int
    failed: int
    """Both with what is in `uncounted` already."""
    status: dict[str, Any]
    """The part of the status that keeps the count."""
    untrack: tuple[Json, ...]
    pending: bool
    """Some pod's finalizer is still to go before the count is final."""


def _is_failed(job: Json, pod: Json) -> bool:
    """A pod on its way out will not succeed; with podReplacementPolicy Failed its end is waited for."""
    if phase(pod) == "Failed":
        return True
    waits = job["spec"].get("podReplacementPolicy") == "Failed"
    return is_terminating(pod) and phase(pod) != "Succeeded" and not waits


def _count(job: Json, pods: Sequence[Json]) -> _Count:
    old = job.get("status") or {}
    tracked = {pod["metadata"]["uid"]: pod for pod in pods if is_tracked(pod)}
    waiting = old.get("uncountedTerminatedPods") or {}
    sums = {"succeeded": int(old.get("succeeded") or 0), "failed": int(old.get("failed") or 0)}
    lists: dict[str, list[str]] = {}
    for outcome in sums:
        uids = list(waiting.get(outcome) or ())
        lists[outcome] = [uid for uid in uids if uid in tracked]
        sums[outcome] += len(uids) - len(lists[outcome])
    known = {uid for uids in lists.values() for uid in uids}
    indexes = read_indexes(old.get("completedIndexes") or "")
    untrack: list[Json] = []
    for uid, pod in tracked.items():
        if uid in known:
            untrack.append(pod)
        elif phase(pod) == "Succeeded":
            untrack.append(pod)
            if is_indexed(job):  # the list of indexes is the count, and naming one twice does no harm
                indexes |= {number for number in (index_of(pod),) if number is not None}
            else:
                lists["succeeded"].append(uid)
        elif _is_failed(job, pod):
            untrack.append(pod)
            lists["failed"].append(uid)
    status: dict[str, Any] = {"uncountedTerminatedPods": {key: uids for key, uids in lists.items() if uids}}
    if is_indexed(job):
        sums["succeeded"] = len(indexes)
        if indexes:
            status["completedIndexes"] = write_indexes(indexes)
    status |= {key: value for key, value in sums.items() if value}
    total = {key: sums[key] + len(lists[key]) for key in sums}
    pending = any(lists.values()) or bool(untrack)
    return _Count(total["succeeded"], total["failed"], status, tuple(untrack), pending)


# --- deciding ----------------------------------------------------------------------------------------


def work(job: Json, pods: Sequence[Json], now: datetime) -> Step:
    """The next step of a job that has not ended. `pods` are all that the job controls."""
    spec, old = job["spec"], job.get("status") or {}
    count = _count(job, pods)
    active = [pod for pod in pods if not is_finished(pod) and not is_terminating(pod)]
    leaving = [pod for pod in pods if is_terminating(pod) and not is_finished(pod)]
    suspended = bool(spec.get("suspend"))
    conditions = [dict(one) for one in old.get("conditions") or ()]
    step = Step(status={**count.status, "conditions": conditions}, untrack=list(count.untrack))
    started = parse_time(old.get("startTime")) if not suspended else None
    if started is None and not suspended:
        started = now
    verdict = _verdict(job, active, count, started, now)
    if verdict is not None:
        step.kill = active
        _decide(step, verdict, count.pending or bool(active) or bool(leaving), now)
    else:
        _suspend(step, suspended, now)
        if suspended:
            step.drop = active
        else:
            _run(job, pods, active, leaving, count, step, now)
            _mind_deadline(spec, started, step, now)
    if started is not None:
        step.status["startTime"] = time_text(started)
    if step.status["conditions"] == []:
        del step.status["conditions"]
    if not verdict and active:
        step.status["active"] = len(active)
    step.status["ready"] = sum(is_ready(pod) for pod in active) if not verdict else 0
    step.status["terminating"] = len(leaving)
    return step


def _verdict(
    job: Json, active: Sequence[Json], count: _Count, started: datetime | None, now: datetime
) -> Verdict | None:
    """Whether the job is decided; what was decided once stays."""
    for kind in _FINAL:
        found = condition_of(job, kind)
        if found is not None:
            return kind, found["reason"], found.get("message") or ""
    spec = job["spec"]
    limit, deadline = int(spec.get("backoffLimit", 6)), spec.get("activeDeadlineSeconds")
    if count.failed > limit or _restarts_exceed(spec, active, limit):
        return _LIMIT
    if deadline is not None and started is not None and (now - started).total_seconds() >= int(deadline):
        return _DEADLINE
    completions = spec.get("completions")
    if completions is None:
        return _REACHED if count.succeeded and not active else None
    return _REACHED if count.succeeded >= int(completions) else None


def _restarts_exceed(spec: Json, active: Sequence[Json], limit: int) -> bool:
    """With restartPolicy OnFailure the same pod tries again: its restarts are the failures."""
    if (spec["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    total = 0
    for pod in active:
        status = pod.get("status") or {}
        states = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        total += sum(int(state.get("restartCount") or 0) for state in states)
    return total > 0 if limit == 0 else total >= limit


def _decide(step: Step, verdict: Verdict, unfinished: bool, now: datetime) -> None:
    """First what the job comes to, then, once all its pods are gone and counted, the end itself."""
    kind, reason, message = verdict
    _set(step.status["conditions"], (kind, "True", reason, message), now)
    if unfinished:
        return
    _set(step.status["conditions"], (_FINAL[kind], "True", reason, message), now)
    if kind == "SuccessCriteriaMet":
        step.status["completionTime"] = time_text(now)
        step.events.append(("Normal", "Completed", "Job completed"))
    else:
        step.events.append(("Warning", reason, message))


def _suspend(step: Step, suspended: bool, now: datetime) -> None:
    conditions: list[dict[str, Any]] = step.status["conditions"]
    was = next((one["status"] == "True" for one in conditions if one["type"] == "Suspended"), None)
    if suspended and not was:
        _set(conditions, ("Suspended", "True", "JobSuspended", "Job suspended"), now)
        step.events.append(("Normal", "Suspended", "Job suspended"))
    elif was and not suspended:
        _set(conditions, ("Suspended", "False", "JobResumed", "Job resumed"), now)
        step.events.append(("Normal", "Resumed", "Job resumed"))


def _run(
    job: Json,
    pods: Sequence[Json],
    active: Sequence[Json],
    leaving: Sequence[Json],
    count: _Count,
    step: Step,
    now: datetime,
) -> None:
    spec = job["spec"]
    parallelism, completions = int(spec.get("parallelism", 1)), spec.get("completions")
    if completions is None:
        want = len(active) if count.succeeded else parallelism
    else:
        want = max(0, min(int(completions) - count.succeeded, parallelism))
    busy = len(active)
    if spec.get("podReplacementPolicy") == "Failed":
        busy += len(leaving)
    surplus = _surplus(job, active, want, step.status.get("completedIndexes") or "")
    if surplus:
        step.drop = surplus
    elif busy < want:
        wait = _backoff(pods, now)
        if wait > 0:
            step.after = wait
        elif is_indexed(job):
            step.create = list(_free_indexes(job, active, step.status, want - busy))
        else:
            step.create = [None] * (want - busy)


def _surplus(job: Json, active: Sequence[Json], want: int, completed: str) -> list[Json]:
    """Pods too many: of an index that is done or has another pod, then the ones that lose the least."""
    if not is_indexed(job):
        return sorted(active, key=deletion_rank)[: max(0, len(active) - want)]
    done = read_indexes(completed)
    keep: list[Json] = []
    surplus: list[Json] = []
    for pod in sorted(active, key=deletion_rank, reverse=True):
        number = index_of(pod)
        taken = number is None or number in done or any(index_of(other) == number for other in keep)
        (surplus if taken else keep).append(pod)
    return [*surplus, *sorted(keep, key=deletion_rank)[: max(0, len(keep) - want)]]


def _free_indexes(job: Json, active: Sequence[Json], status: Json, most: int) -> list[int]:
    taken = read_indexes(status.get("completedIndexes") or "") | {index_of(pod) for pod in active}
    free = [index for index in range(int(job["spec"].get("completions") or 0)) if index not in taken]
    return free[:most]


def _backoff(pods: Sequence[Json], now: datetime) -> float:
    """Seconds until the next pod may be tried: 10, 20, 40 … after failures in a row, at most 10 minutes."""
    succeeded = [ended for pod in pods if phase(pod) == "Succeeded" and (ended := _ended(pod)) is not None]
    last = max(succeeded, default=None)
    failures = [ended for pod in pods if phase(pod) == "Failed" and (ended := _ended(pod)) is not None]
    since = [ended for ended in failures if last is None or ended > last]
    if not since:
        return 0.0
    pause: float = min(BACKOFF_FIRST_S * 2 ** min(len(since) - 1, 16), BACKOFF_MAX_S)
    return max(0.0, pause - (now - max(since)).total_seconds())


def _ended(pod: Json) -> datetime | None:
    """When the last container of the pod ended, or when it was made (an init container may be all it had)."""
    status = pod.get("status") or {}
    states = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    times = [((state.get("state") or {}).get("terminated") or {}).get("finishedAt") for state in states]
    known = [moment for moment in map(parse_time, times) if moment is not None]
    return max(known) if known else parse_time(pod["metadata"].get("creationTimestamp"))


def _mind_deadline(spec: Json, started: datetime | None, step: Step, now: datetime) -> None:
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is None or started is None:
        return
    left = max(0.0, int(deadline) - (now - started).total_seconds()) + 0.01
    step.after = left if step.after is None else min(step.after, left)


def _set(conditions: list[dict[str, Any]], wanted: tuple[str, str, str, str], now: datetime) -> None:
    kind, value, reason, message = wanted
    found = next((one for one in conditions if one["type"] == kind), None)
    if found is not None and found["status"] == value:
        return
    text = time_text(now)
    fresh = {
        "type": kind,
        "status": value,
        "lastProbeTime": text,
        "lastTransitionTime": text,
        "reason": reason,
        "message": message,
    }
    if found is None:
        conditions.append(fresh)
    else:
        found.update(fresh)
