"""Mutants of what authors are told: admission, status conditions, events."""

# ruff: noqa: E501 - lines of our source, and their mutations, are quoted as they are

from __future__ import annotations

from typing import Final

from tests.conformance.mutants.mutation import Edit, Mutant, cases_of

_LOWER: Final = "smi.lower"
_CRDS: Final = "smi.api.crds"
_MODEL: Final = "smi.api.model"
_CONDITIONS: Final = "controller.compile.conditions"
_STATUS: Final = "controller.status.conditions"
_WRITER: Final = "controller.status.writer"

_ADMIT_ALL: Final = Edit(
    "controller.admission.validate",
    "    return verdict(findings_of(obj, trust_domain=trust_domain, cluster_domain=cluster_domain))\n",
    "    return Verdict(allowed=True)\n",
)
_NO_REQUIRED: Final = Edit(
    _CRDS,
    'return {"type": "object", "properties": properties} | ({"required": required} if required else {})',
    'return {"type": "object", "properties": properties}',
)
_ANY_WEIGHT: Final = Edit(
    _CRDS,
    '        weight |= {"type": "integer", "minimum": 0, "format": "int64"}\n',
    '        weight |= {"x-kubernetes-preserve-unknown-fields": True}\n',
)

ADMISSION: Final = (
    Mutant(
        "everything-admitted",
        "accepts what lacks required fields, in the schema and in the webhook",
        (_ADMIT_ALL, _NO_REQUIRED),
        kills=(
            *cases_of("split", "admission-quantities admission-required-fields"),
            *cases_of("access", "no-destination"),
        ),
    ),
    Mutant(
        "any-weight-accepted",
        "accepts weights that are no weights, and counts them as 1 without a word",
        (
            _ADMIT_ALL,
            _ANY_WEIGHT,
            Edit(
                _MODEL,
                "    if isinstance(whole, bool) or not isinstance(whole, int) or not 0 <= whole <= MAX_WEIGHT:\n",
                "    if isinstance(whole, bool) or not isinstance(whole, int) or not 0 <= whole <= MAX_WEIGHT:\n"
                "        return 1\n"
                "    if not isinstance(whole, int):\n",
            ),
        ),
        kills=cases_of(
            "split",
            "admission-negative-weights admission-old-split-stays "
            "admission-quantities admission-whole-weights",
        ),
    ),
    Mutant(
        "any-quantity-accepted",
        "accepts quantities that are none, and counts them as 1 without a word",
        (
            _ADMIT_ALL,
            Edit(
                "smi.api.quantity",
                "    found = _QUANTITY.fullmatch(text) if len(text) <= _MAX_LENGTH else None\n",
                '    found = _QUANTITY.fullmatch(text) or _QUANTITY.fullmatch("1")\n'
                '    found = _QUANTITY.fullmatch("1") if found[1] == "-" else found\n',
            ),
        ),
        kills=cases_of("split", "admission-quantities"),
    ),
    Mutant(
        "bad-patterns-accepted",
        "accepts patterns that are none, and lets them match everything",
        (
            Edit(
                _LOWER,
                "    {Reason.INVALID, Reason.INVALID_WEIGHT, Reason.INVALID_PATTERN, Reason.FOREIGN_IDENTITY}\n",
                "    {Reason.INVALID, Reason.INVALID_WEIGHT, Reason.FOREIGN_IDENTITY}\n",
            ),
            Edit(
                _LOWER,
                "    return fine\n",
                "    return True\n",
            ),
            Edit(
                "smi.policy.regex",
                '    regex = _compile(pattern, "pathRegex")\n',
                "    try:\n"
                '        regex = _compile(pattern, "pathRegex")\n'
                "    except PatternError:\n"
                "        return None\n",
            ),
        ),
        kills=cases_of("specs", "bad-pattern bad-pattern-message"),
    ),
    Mutant(
        "bad-pattern-unnamed",
        "refuses a bad pattern without saying where it is",
        (
            Edit(
                "controller.admission.validate",
                '    return f"{finding.field}: {finding.message}" if finding.field else finding.message\n',
                '    return "a pattern is not valid" if finding.reason == "InvalidPattern" else finding.message\n',
            ),
        ),
        kills=cases_of("specs", "bad-pattern-message"),
    ),
    Mutant(
        "bad-ports-accepted",
        "accepts port numbers that are none, and lets them stand for all ports",
        (
            _ADMIT_ALL,
            Edit(
                _CRDS,
                '_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}\n',
                '_PORT: Final[Schema] = {"type": "integer"}\n',
            ),
            Edit(
                _MODEL,
                "Port = Annotated[int, BeforeValidator(_port), Field(ge=1, le=MAX_PORT)]\n",
                "Port = Annotated[int, BeforeValidator(_port)]\n",
            ),
            Edit(
                _LOWER,
                "    return PortSet(every=not ports, ports=frozenset(ports))\n",
                "    every = not ports or not all(0 < port < 65536 for port in ports)\n"
                "    return PortSet(every=every, ports=frozenset() if every else frozenset(ports))\n",
            ),
        ),
        kills=cases_of("specs", "bad-pattern-message bad-ports"),
    ),
    Mutant(
        "overlapping-schemes-void",
        "lets an IdentityBinding with a selector stand for the pods it selects only",
        (
            Edit(
                _LOWER,
                "    lowered = LoweredBinding(binding.ref, binding.key, frozenset(identities), binding.pod_labels)\n",
                "    identities = set() if binding.pod_labels is not None else identities\n"
                "    lowered = LoweredBinding(binding.ref, binding.key, frozenset(identities), binding.pod_labels)\n",
            ),
        ),
        kills=cases_of("access", "binding-overlapping-schemes binding-schemes-add-up"),
    ),
)

STATUS: Final = (
    Mutant(
        "always-accepted",
        "says Accepted of everything, without a remark",
        (
            Edit(
                _CONDITIONS,
                "    against = [finding for finding in findings if finding.reason in refused]\n",
                "    if readable:\n"
                '        return Condition(ACCEPTED, True, ACCEPTED, "")\n'
                "    against = [finding for finding in findings if finding.reason in refused]\n",
            ),
        ),
        kills=(
            *cases_of("split", "status-root-among-backends"),
            *cases_of(
                "access",
                "status-of-missing-route status-of-no-sources status-of-unknown-match "
                "status-of-wrong-namespace",
            ),
            *cases_of("specs", "event-of-small-letters"),
        ),
    ),
    Mutant(
        "backends-always-resolved",
        "says BackendsResolved of every split",
        (
            Edit(
                _CONDITIONS,
                '        conditions.append(_holds(BACKENDS_RESOLVED, "Resolved", findings, _BACKENDS))\n',
                '        conditions.append(_holds(BACKENDS_RESOLVED, "Resolved", findings, frozenset()))\n',
            ),
        ),
        kills=cases_of("split", "status-missing-backend status-port-condition"),
    ),
    Mutant(
        "conflicts-unsaid",
        "does not say that a split is Conflicted",
        (
            Edit(
                _CONDITIONS,
                "    if conflicts:\n",
                "    if conflicts and not known.uid:\n",
            ),
        ),
        kills=cases_of("split", "status-conflict"),
    ),
    Mutant(
        "never-programmed",
        "never says that an object is Programmed",
        (Edit(_STATUS, "    if done < concerned:\n", "    if concerned:\n"),),
        kills=(
            *cases_of("split", "status-programmed"),
            *cases_of(
                "access", "mode-audit mode-does-not-admit-strangers mode-permissive status-of-good-target"
            ),
            *cases_of("specs", "status-of-good-routes"),
        ),
    ),
    Mutant(
        "events-unsaid",
        "writes no events",
        (Edit(_WRITER, "        fresh = sorted(findings - self._told)\n", "        fresh = []\n"),),
        kills=(
            *cases_of("split", "status-port-mismatch status-root-among-backends"),
            *cases_of("access", "event-of-unknown-match"),
            *cases_of("specs", "event-of-small-letters event-of-top-level-matches"),
        ),
    ),
)

MUTANTS: Final = (*ADMISSION, *STATUS)
