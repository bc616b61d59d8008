"""The script of the demo: what is applied, what is announced, how it is checked. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NAMESPACE: Final = "shop"
CONTROL_PORT: Final = 9000
LIVE_SECONDS: Final = 0.5
"""A change of a TrafficSplit is announced to run in every proxy concerned within this time."""
PICKS: Final = 500
"""Requests per share that is measured."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request from inside `caller`'s pod, and the answer announced for it."""

    caller: str
    method: str
    path: str
    status: int
    reason: str | None = None
    """The mesh's reason for refusing, from its response header."""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        return f"http://api:8080{self.path}"

    @property
    def title(self) -> str:
        return f"{self.caller}: {self.method} api{self.path}"


@dataclass(frozen=True, slots=True)
class Dial:
    """One TCP conversation with the database from inside `caller`'s pod."""

    caller: str
    opens: bool
    line: str = "GET lamp"
    host: str = "db"
    port: int = 5432

    @property
    def title(self) -> str:
        return f"{self.caller}: TCP {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Count:
    """Many requests GET /items from `web`, and the share of each backend that is announced."""

    weights: tuple[tuple[str, int], ...]
    headers: tuple[tuple[str, str], ...] = ()
    picks: int = PICKS

    @property
    def title(self) -> str:
        marks = "".join(f" {name}: {value}" for name, value in self.headers)
        return f"web: {self.picks} × GET api/items" + (f" with{marks}" if marks else "")

    @property
    def label(self) -> str:
        """`90/10`, with the name of the header that selects the requests where there is one."""
        total = sum(weight for _, weight in self.weights)
        shares = "/".join(f"{100 * weight // total}" for _, weight in self.weights)
        return " ".join([shares, *(name for name, _ in self.headers)])


Check = Ask | Dial | Count


@dataclass(frozen=True, slots=True)
class Step:
    """One scene. `watched` are the objects whose `Programmed` condition says that the change is live."""

    title: str
    text: str
    manifest: str
    """File in cli/demo/manifests."""
    kubectl: str
    checks: tuple[Check, ...]
    watched: tuple[tuple[str, str, str], ...] = ()
    """(apiVersion, kind, name)."""
    live_within: float | None = None
    """Seconds within which the change is announced to be live; None = measured and only shown."""
    whole_yaml: bool = True
    """False: the manifest is too long to print; its first object and a list of the others are shown."""


_SPLIT: Final = ("split.smi-spec.io/v1alpha4", "TrafficSplit", "api-rollout")
_BETA: Final = ("split.smi-spec.io/v1alpha4", "TrafficSplit", "api-beta")


def _apply(manifest: str) -> str:
    return f"kubectl apply -f cli/demo/manifests/{manifest}"


def _patch(first: int, second: int) -> str:
    return (
        f"kubectl apply -f cli/demo/manifests/split-{first}-{second}.yaml\n"
        "# or\n"
        f"kubectl -n {NAMESPACE} patch trafficsplit api-rollout --type=merge -p "
        f'\'{{"spec":{{"backends":[{{"service":"api-v1","weight":{first}}},'
        f'{{"service":"api-v2","weight":{second}}}]}}}}\''
    )


def _rollout(first: int, second: int, text: str) -> Step:
    return Step(
        title=f"Rollout: {first} / {second}",
        text=text,
        manifest=f"split-{first}-{second}.yaml",
        kubectl=_patch(first, second),
        watched=(_SPLIT,),
        live_within=LIVE_SECONDS,
        checks=(Count((("api-v1", first), ("api-v2", second))),),
    )


STORY: Final = (
    Step(
        title="Nothing is allowed that nobody allowed",
        text=(
            "The shop is running: `web` calls `api` (two versions) and `db`; `stranger` has no business"
            " here. Every pod has its sidecar, every connection between them is mutual TLS, and no"
            " TrafficTarget exists yet. So every call is refused, with a reason."
        ),
        manifest="shop.yaml",
        kubectl=_apply("shop.yaml"),
        whole_yaml=False,
        checks=(
            Ask("web", "GET", "/items", 403, "no-traffic-target"),
            Ask("stranger", "GET", "/items", 403, "no-traffic-target"),
            Dial("web", opens=False),
        ),
    ),
    Step(
        title="Open exactly GET /items, to web only",
        text=(
            "An HTTPRouteGroup names the requests, a TrafficTarget says who may send them to whom."
            " The sidecar of `api` decides on the caller's certificate, for every request."
        ),
        manifest="allow-items.yaml",
        kubectl=_apply("allow-items.yaml"),
        watched=(("access.smi-spec.io/v1alpha3", "TrafficTarget", "web-reads-items"),),
        checks=(
            Ask("web", "GET", "/items", 200),
            Ask("web", "POST", "/items", 403, "route-not-allowed"),
            Ask("web", "GET", "/admin", 403, "route-not-allowed"),
            Ask("stranger", "GET", "/items", 403, "source-not-allowed"),
            Dial("web", opens=False),
        ),
    ),
    _rollout(
        100, 0, "A TrafficSplit takes over the service `api`: everything to api-v1 while api-v2 is untried."
    ),
    _rollout(90, 10, "A tenth of the requests goes to the new version. Only the weights change."),
    _rollout(50, 50, "Half and half."),
    _rollout(0, 100, "The new version has everything; the rollout is done."),
    Step(
        title="A/B test by header",
        text=(
            "Everybody is back on api-v1, but requests that carry `x-beta: yes` reach api-v2:"
            " a TrafficSplit with `matches`."
        ),
        manifest="ab-test.yaml",
        kubectl=_apply("ab-test.yaml"),
        watched=(_SPLIT, _BETA),
        checks=(
            Count((("api-v1", 0), ("api-v2", 1)), headers=(("x-beta", "yes"),), picks=100),
            Count((("api-v1", 1), ("api-v2", 0)), picks=100),
        ),
    ),
    Step(
        title="Open the database",
        text=(
            "TCP has no paths: a TCPRoute names the port, a TrafficTarget who may open it. The stranger"
            " is reset after the handshake; `web` is greeted and asks for a row."
        ),
        manifest="open-db.yaml",
        kubectl=_apply("open-db.yaml"),
        watched=(("access.smi-spec.io/v1alpha3", "TrafficTarget", "web-uses-db"),),
        checks=(
            Dial("web", opens=True),
            Dial("stranger", opens=False),
            Ask("web", "GET", "/admin", 403, "route-not-allowed"),
        ),
    ),
)
