"""What would change for somebody who moves here from another mesh, case by case and as a page. Pure.

A prediction, not a measurement: it is made from documentation and sources (`peers.yaml`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any, Final, Literal, Self

import pydantic
import yaml

from conformance.case import Case, Level
from conformance.collect import Entry
from conformance.features import FEATURES
from conformance.profiles import ProfileError, expand, known


class PeerError(ValueError):
    """`peers.yaml` does not fit the cases; the text names what is wrong."""


class Forecast(StrEnum):
    """What a case is expected to show at the other mesh."""

    SAME = "same"
    """It is offered, and nothing that is documented says otherwise."""
    DIFFERENT = "different"
    """It is documented to behave otherwise."""
    UNCLAIMED = "unclaimed"
    """Nothing says that it offers the feature."""
    OPEN = "open"
    """SMI leaves it open, and nothing is documented."""


class Behaviour(pydantic.BaseModel):
    """One way in which another mesh differs."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    there: str
    here: str
    todo: str
    source: str
    """Where it is documented, or the source file that says it."""
    cases: tuple[str, ...]
    shows: Literal["", "http-rule-without-matches", "tcp-or-udp-rule"] = ""
    """Further cases in which it shows: those whose manifests hold such a rule."""


class Peer(pydantic.BaseModel):
    """Another mesh."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    read: str
    """What was read, and of when."""
    profile: str = ""
    features: tuple[str, ...] = ()
    behaviours: tuple[Behaviour, ...]

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.profile) == bool(self.features):
            raise ValueError(f"{self.name}: give either `profile` or `features`")
        unknown = sorted(set(self.features) - set(FEATURES))
        if unknown:
            raise ValueError(f"{self.name}: unknown features {', '.join(unknown)}")
        return self

    @property
    def offers(self) -> frozenset[str]:
        """The features it has."""
        return known(self.profile).claimed if self.profile else expand(self.features)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One case at another mesh."""

    case: Case
    forecast: Forecast
    behaviour: Behaviour | None = None


def read(entries: Iterable[Entry]) -> tuple[Peer, ...]:
    """The meshes that come with the suite; raises PeerError."""
    text = (resources.files("conformance") / "peers.yaml").read_text(encoding="utf-8")
    return parse(text, {entry.case.name for entry in entries})


def parse(text: str, names: Iterable[str]) -> tuple[Peer, ...]:
    """Parse a list of meshes; raises PeerError for a case that is not there."""
    try:
        found = [Peer.model_validate(peer) for peer in yaml.safe_load(text)["peers"]]
        there = set(names)
        for peer in found:
            _ = peer.offers
    except (yaml.YAMLError, pydantic.ValidationError, ProfileError, OSError, KeyError, TypeError) as error:
        raise PeerError(f"peers.yaml: {error}") from None
    for peer in found:
        for behaviour in peer.behaviours:
            unknown = sorted(set(behaviour.cases) - there)
            if unknown:
                raise PeerError(f"peers.yaml: {peer.name}: there is no case {', '.join(unknown)}")
    return tuple(found)


def predict(peer: Peer, entries: Iterable[Entry]) -> tuple[Prediction, ...]:
    """Every case at another mesh."""
    offers = peer.offers
    return tuple(_one(peer, entry, offers) for entry in entries)


def _one(peer: Peer, entry: Entry, offers: frozenset[str]) -> Prediction:
    case = entry.case
    behaviour = next((b for b in peer.behaviours if case.name in b.cases), None)
    if behaviour is not None:
        return Prediction(case, Forecast.DIFFERENT, behaviour)
    if not {case.feature, *case.needs} <= offers:
        return Prediction(case, Forecast.UNCLAIMED)
    behaviour = next((b for b in peer.behaviours if b.shows and _SHOWS[b.shows](entry)), None)
    if behaviour is not None:
        return Prediction(case, Forecast.DIFFERENT, behaviour)
    return Prediction(case, Forecast.OPEN if case.level is Level.IMPLEMENTATION else Forecast.SAME)


def _rules(entry: Entry) -> list[Mapping[str, Any]]:
    """The rules of all TrafficTargets of a case."""
    targets = [obj for obj in entry.objects if obj["kind"] == "TrafficTarget"]
    lists = [(obj.get("spec") or {}).get("rules") or obj.get("specs") or [] for obj in targets]
    return [rule for rules in lists for rule in rules]


_SHOWS: Final[Mapping[str, Callable[[Entry], bool]]] = {
    "http-rule-without-matches": lambda entry: any(
        rule.get("kind") == "HTTPRouteGroup" and not rule.get("matches") for rule in _rules(entry)
    ),
    "tcp-or-udp-rule": lambda entry: any(
        rule.get("kind") in ("TCPRoute", "UDPRoute") for rule in _rules(entry)
    ),
}

_HEAD: Final = """# Moving here from another mesh

Made by `make coverage` from `conformance/peers.yaml`; do not edit. What documentation and sources of other
SMI meshes say they do, where that is not what our [conformance cases](conformance.md) ask for.
**Predictions: none of these meshes was measured.** `smi-mesh conformance run --mesh …` against the mesh
itself tells for certain; `smi-mesh conformance predict --from osm` lists the predictions case by case.

In every case your manifests stay what they are: all published versions of all kinds are served. Begin with
`smi-mesh.io/mode: permissive` on your namespaces, look at what would be refused, write TrafficTargets, and
take the annotation away. Names of labels and annotations differ: [Getting started](getting-started.md).
"""


def page(peers: Sequence[Peer], entries: Sequence[Entry]) -> str:
    """docs/migrating.md."""
    forecasts = {peer.name: predict(peer, entries) for peer in peers}
    head = ("From", "the same", "different", "not claimed there", "left open by SMI")
    order = (Forecast.SAME, Forecast.DIFFERENT, Forecast.UNCLAIMED, Forecast.OPEN)
    rows = [(peer.title, *(str(count(forecasts[peer.name], kind)) for kind in order)) for peer in peers]
    parts = [_HEAD, f"Of {len(entries)} cases:", "", *_table(head, *rows)]
    for peer in peers:
        parts += _section(peer, forecasts[peer.name])
    return "\n".join(parts).rstrip() + "\n"


def count(predictions: Iterable[Prediction], kind: Forecast) -> int:
    return sum(prediction.forecast is kind for prediction in predictions)


def _section(peer: Peer, predictions: Sequence[Prediction]) -> list[str]:
    rows = []
    for behaviour in peer.behaviours:
        names = [p.case.name for p in predictions if p.behaviour is behaviour]
        shown = [name for name in names if name in behaviour.cases]
        rest = len(names) - len(shown)
        cases = ", ".join([*shown, *([f"{rest} more"] if rest else [])])
        rows.append((behaviour.there, behaviour.here, behaviour.todo, cases or "none", behaviour.source))
    features = sorted({p.case.feature for p in predictions if p.forecast is Forecast.UNCLAIMED})
    unclaimed = "; ".join(FEATURES[name].summary for name in features)
    return [
        f"## {peer.title}",
        "",
        f"Read: {peer.read}.",
        "",
        *_table(("There", "Here", "What to do", "Cases", "Source"), *rows),
        f"Not claimed there: {unclaimed}." if unclaimed else "",
        "",
    ]


def _table(*rows: Sequence[str]) -> list[str]:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines] + [""]
