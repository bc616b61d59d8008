"""An Explanation for people, and as plain data for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from cli.explain.decision import HTTP, Explanation, LeftOut, Question, Verdict, Way
from smi.findings import Finding, ObjectRef
from smi.limits import breaker_text
from smi.names import (
    CIRCUIT_BREAKER_ANNOTATION,
    CONNECTION_RATE_LIMIT_ANNOTATION,
    OUTLIER_DETECTION_ANNOTATION,
    RATE_LIMIT_ANNOTATION,
    NamespacedName,
)
from smi.policy.access import Denial, Permit
from smi.policy.snapshot import CircuitBreaker, Limited

Where = Callable[[ObjectRef, str], str]
"""(object, field) → `file:line` it is written at; empty for what no file holds."""


def lines(question: Question, answer: Explanation, where: Where) -> Iterator[str]:
    """The answer, the decision first."""
    what = _what(question, answer)
    yield f"{question.source} -> {_asked(question)} {what}".rstrip()
    yield ""
    yield f"{_headline(answer)}"
    yield ""
    yield f"  caller       {answer.peer.identity if answer.peer else 'no mesh identity'}"
    if answer.peer and answer.peer.pod:
        yield f"               pod {answer.peer.pod}"
    destination = answer.destination
    if destination.cluster is not None:
        service = destination.service
        named = f"Service {service}:{destination.port}" if service else destination.cluster
        yield f"  destination  {named} ({destination.protocol})"
    if answer.split:
        taken = f"its filter {answer.split_match} is met" if answer.split_match else "it splits all traffic"
        yield f"  split        TrafficSplit {answer.split}: {taken}{_place(where, _split(answer.split))}"
    for way in answer.ways:
        yield ""
        yield from _way(way, where)
    if answer.left_out:
        yield ""
        for out in answer.left_out:
            yield f"      0 %  {out.service}: {out.why}"
    if answer.findings:
        yield ""
        yield "findings"
        for finding in answer.findings:
            yield f"  {_finding(finding)}{_place(where, finding.ref, finding.field)}"
    if answer.assumed:
        yield ""
        yield "assumed"
        for text in answer.assumed:
            yield f"  {text}"


def _asked(question: Question) -> str:
    host = f"[{question.host}]" if ":" in question.host else question.host
    return f"{host}:{question.port}"


def _what(question: Question, answer: Explanation) -> str:
    request = question.request
    if request is None or answer.seen != HTTP:
        return answer.seen.upper()
    return f"{request.method.decode('latin-1')} {request.path.decode('latin-1')}"


def _headline(answer: Explanation) -> str:
    if answer.destination.cluster is None:
        return f"NOT OF THE MESH: {answer.trouble}"
    if not answer.ways:
        return f"NOBODY TO SEND TO: {answer.trouble}"
    passing = answer.passing
    if passing in (0, 1):
        return "ALLOWED" if passing else "DENIED"
    return f"ALLOWED for {percent(passing)} of calls, DENIED for the rest"


def percent(share: Fraction) -> str:
    """With as many digits as it takes, two at most."""
    return f"{float(share * 100):.2f}".rstrip("0").rstrip(".") + " %"


def _way(way: Way, where: Where) -> Iterator[str]:
    pods = sum(len(verdict.pods) for verdict in way.verdicts)
    named = way.service or ", ".join(pod for verdict in way.verdicts for pod in verdict.pods)
    yield f"  {percent(way.share):>7}  {named}, {pods} ready endpoint{'' if pods == 1 else 's'}"
    several = len(way.verdicts) > 1
    for verdict in way.verdicts:
        if several:
            yield f"           pods {', '.join(verdict.pods)}:"
        yield from (f"           {line}" for line in _verdict(verdict, where))
    if way.breaker is not None:
        texts = zip(_BREAKER, breaker_text(way.breaker), strict=True)
        for (annotation, what), text in texts:
            if text:
                place = _place(where, _service(way.service), f"metadata.annotations.{annotation}")
                yield f"           {what} of Service {way.service}: {text}{place}"


def _verdict(verdict: Verdict, where: Where) -> Iterator[str]:
    decision = verdict.decision
    port = verdict.port
    if decision is None:
        yield f"passes: no sidecar enforces anything on port {port}"
        return
    if isinstance(decision, Denial):
        yield f"denied on port {port}: {decision.reason} (id {decision.id})"
    elif decision.target:
        ref = _target(NamespacedName.parse(decision.target))
        yield f"allowed on port {port} by TrafficTarget {decision.target}{_place(where, ref)}"
        for rule in verdict.rules:
            yield f"  {rule}{_place(where, ref, rule)}"
        if decision.match:
            group, _, match = decision.match.rpartition("/")
            yield f"  match {match} of HTTPRouteGroup {group}{_place(where, _group(group), verdict.match)}"
    else:
        yield f"allowed on port {port}: {_NOTES.get(decision.note, decision.note)}"
        if decision.would_deny is not None:
            yield f"would be denied: {decision.would_deny.reason} (id {decision.would_deny.id})"
    for miss in verdict.misses:
        yield f"  TrafficTarget {miss.target}: {miss.text}{_place(where, _target(miss.target))}"
    for limit in verdict.limits:
        place = _place(where, _service(limit.service), f"metadata.annotations.{_RATES[limit.what]}")
        yield f"  rate limit of Service {limit.service}: {limit.text}{place}"
    if not verdict.misses and isinstance(decision, Denial) and decision.reason == "no-traffic-target":
        yield "  no TrafficTarget has this pod as its destination"


_RATES = {
    Limited.REQUESTS: RATE_LIMIT_ANNOTATION,
    Limited.CONNECTIONS: CONNECTION_RATE_LIMIT_ANNOTATION,
}
_BREAKER = (
    (CIRCUIT_BREAKER_ANNOTATION, "circuit breaker"),
    (OUTLIER_DETECTION_ANNOTATION, "outlier detection"),
)
_NOTES = {
    "probe": "it is a kubelet probe of this pod (S26)",
    "permissive": "the namespace is permissive (S27)",
    "audit": "the namespace only audits (S27)",
    "same-service-account": "caller and destination share a service account (S28)",
    "unauthenticated": "the namespace takes callers without a mesh identity (S32)",
}


def _finding(finding: Finding) -> str:
    field = f" {finding.field}" if finding.field else ""
    return f"{finding.severity.lower()}: {finding.ref}{field}: {finding.message} [{finding.reason}]"


def _place(where: Where, ref: ObjectRef, field: str = "") -> str:
    found = where(ref, field)
    return f"  ({found})" if found else ""


def _target(name: NamespacedName) -> ObjectRef:
    return ObjectRef("access.smi-spec.io", "TrafficTarget", name.namespace, name.name)


def _service(text: str) -> ObjectRef:
    namespace, _, name = text.partition("/")
    return ObjectRef("", "Service", namespace, name)


def _group(text: str) -> ObjectRef:
    name = NamespacedName.parse(text)
    return ObjectRef("specs.smi-spec.io", "HTTPRouteGroup", name.namespace, name.name)


def _split(text: str) -> ObjectRef:
    name = NamespacedName.parse(text)
    return ObjectRef("split.smi-spec.io", "TrafficSplit", name.namespace, name.name)


def plain(question: Question, answer: Explanation, where: Where) -> dict[str, Any]:
    """The same as data: shares are numbers from 0 to 1."""
    return {
        "from": str(question.source),
        "to": _asked(question),
        "seenAs": answer.seen,
        "identity": answer.peer.identity if answer.peer else None,
        "service": answer.destination.service,
        "allowed": float(answer.passing),
        "trouble": answer.trouble or None,
        "split": answer.split or None,
        "splitMatch": answer.split_match or None,
        "backends": [_plain_way(way) for way in answer.ways],
        "leftOut": [_plain_out(out) for out in answer.left_out],
        "findings": [
            {
                "object": str(finding.ref),
                "severity": finding.severity,
                "reason": finding.reason,
                "field": finding.field,
                "message": finding.message,
                "place": where(finding.ref, finding.field) or None,
            }
            for finding in answer.findings
        ],
        "assumed": list(answer.assumed),
    }


def _plain_way(way: Way) -> dict[str, Any]:
    return {
        "service": way.service or None,
        "probability": float(way.share),
        "verdicts": [_plain_verdict(verdict) for verdict in way.verdicts],
        "circuitBreaker": _plain_breaker(way.breaker),
    }


def _plain_breaker(breaker: CircuitBreaker | None) -> str | None:
    return None if breaker is None else " ".join(text for text in breaker_text(breaker) if text)


def _plain_verdict(verdict: Verdict) -> dict[str, Any]:
    decision = verdict.decision
    permit = decision if isinstance(decision, Permit) else None
    denial = decision if isinstance(decision, Denial) else permit.would_deny if permit else None
    return {
        "pods": list(verdict.pods),
        "port": verdict.port,
        "allowed": verdict.passes,
        "trafficTarget": permit.target or None if permit else None,
        "rules": list(verdict.rules),
        "match": permit.match or None if permit else None,
        "note": permit.note or None if permit else "no-sidecar" if decision is None else None,
        "reason": denial.reason if denial else None,
        "denial": denial.id if denial else None,
        "misses": [{"trafficTarget": str(miss.target), "miss": miss.text} for miss in verdict.misses],
        "rateLimits": [{"service": limit.service, "limit": limit.text} for limit in verdict.limits],
    }


def _plain_out(out: LeftOut) -> dict[str, str]:
    return {"service": out.service, "why": out.why}
