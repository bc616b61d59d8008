"""`smi-mesh explain` on manifests: who is let through by what, what comes nearest, and where it goes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.explain.decision import Explanation, Interception, Question, explain
from cli.explain.documents import read
from cli.explain.manifests import Manifests, imagine
from cli.explain.render import lines, percent, plain
from cli.main import main
from controller.compile.read import CORE_KINDS, SMI_KINDS
from smi.names import NamespacedName
from smi.policy.access import Denial, Permit
from smi.policy.match import Request
from tests.cli.explain.test_lint import (
    API,
    BASE,
    ITEMS,
    JSON,
    NAMESPACE,
    READ,
    group,
    line_of,
    split,
    target,
    tcp,
)

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {spec: {serviceAccountName: web, containers: []}}}
---
"""
V2 = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api-v2, namespace: shop}
spec:
  template:
    metadata: {labels: {app: api-v2}}
    spec: {serviceAccountName: api-v2, containers: []}
---
apiVersion: v1
kind: Service
metadata: {name: api-v2, namespace: shop}
spec: {selector: {app: api-v2}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
"""
SHOP = BASE + WEB
WRITE = "{name: write, pathRegex: '/items$', methods: [POST], headers: {x-role: ^admin$}}"


def request(method: str = "GET", path: str = "/items", **headers: str) -> Request:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(method.encode(), path.encode(), b"api", fields)


def ask(
    text: str,
    call: Request | None = None,
    *,
    source: str = "web",
    host: str = "api",
    port: int = 80,
    udp: bool = False,
) -> Explanation:
    documents, complaints = read("m.yaml", text)
    assert not complaints
    world = imagine(Manifests(tuple(documents))).world
    question = Question(NamespacedName("shop", source), host, port, call, udp)
    return explain(world, question, imagined=True)


def only(answer: Explanation) -> Permit | Denial | None:
    ((verdict,),) = (way.verdicts for way in answer.ways)
    return verdict.decision


def test_what_allows_it_is_named_by_target_rule_and_match() -> None:
    answer = ask(SHOP + group(WRITE, READ) + target(ITEMS), request())
    assert only(answer) == Permit("shop/web-to-api", "shop/items/read")
    verdict = answer.ways[0].verdicts[0]
    assert (verdict.rules, verdict.match, verdict.port) == (("spec.rules[0]",), "spec.matches[1]", 8080)
    assert answer.passing == answer.ways[0].share == 1
    assert answer.peer is not None
    assert answer.peer.identity == "spiffe://cluster.local/ns/shop/sa/web"


MISSES = [
    ("DELETE", "/items", {}, ITEMS, "method DELETE is not in match read of HTTPRouteGroup shop/items"),
    ("GET", "/admin", {}, ITEMS, "path /admin does not match '/items$' in match read of HTTPRouteGroup"),
    ("POST", "/items", {}, ITEMS, "header x-role, asked for by match write of HTTPRouteGroup shop/items"),
    ("POST", "/items", {"x-role": "me"}, ITEMS, "header x-role does not match its filter in match write"),
    ("GET", "/items", {}, "[{kind: TCPRoute, name: ports}]", "port 8080 is not in its TCPRoute rules"),
    ("GET", "/items", {}, "[{kind: UDPRoute, name: u}]", "it has no rule for HTTP"),
    ("GET", "/items", {}, "[{kind: HTTPRouteGroup, name: gone}]", "its HTTP rules resolve to no match"),
    ("GET", "/items", {}, "[{kind: TCPRoute, name: ports}, {kind: HTTPRouteGroup, name: items}]",
     "port 8080 is not in its TCPRoute rules"),
    ("GET", "/items", {}, "[]", "it grants nothing: it has no rules, so it allows nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "headers", "rules", "miss"), MISSES)
def test_the_nearest_miss_is_said_in_one_line(
    method: str, path: str, headers: dict[str, str], rules: str, miss: str
) -> None:
    answer = ask(SHOP + group(READ, WRITE) + tcp(9090) + target(rules), request(method, path, **headers))
    assert isinstance(only(answer), Denial)
    (said,) = answer.ways[0].verdicts[0].misses
    assert said.target == NamespacedName("shop", "web-to-api")
    assert said.text.startswith(miss)
    assert "\n" not in said.text


def test_every_target_concerned_has_its_line_those_that_name_the_caller_first() -> None:
    names = [f"a-other-{number}" for number in range(5)]
    text = SHOP + group(READ) + "".join(target(ITEMS, source="other", name=name) for name in names)
    text += target("[]", name="void") + target(ITEMS, name="mine")
    misses = ask(text, request("PUT")).ways[0].verdicts[0].misses
    assert [miss.target.name for miss in misses] == ["mine", *names, "void"]
    assert "is not among its sources" in misses[1].text


def test_without_any_target_there_is_no_miss_but_a_reason() -> None:
    answer = ask(SHOP, request())
    denial = only(answer)
    assert isinstance(denial, Denial)
    assert (denial.reason, answer.ways[0].verdicts[0].misses) == ("no-traffic-target", ())


def test_shares_are_exact_and_backends_judge_for_themselves() -> None:
    text = SHOP + V2 + group(READ) + target(ITEMS)
    text += split("[{service: api, weight: 2}, {service: api-v2, weight: 1}, {service: gone, weight: 5}]")
    answer = ask(text, request())
    assert [(way.service, way.share, way.verdicts[0].passes) for way in answer.ways] == [
        ("shop/api", Fraction(2, 3), True),
        ("shop/api-v2", Fraction(1, 3), False),
    ]
    assert answer.passing == Fraction(2, 3)
    assert [(out.service, out.why) for out in answer.left_out] == [
        ("shop/gone", "no such Service, or it does not expose port 80")
    ]
    assert {finding.reason for finding in answer.findings} == {"BackendNotFound", "RootAmongBackends"}


def test_a_filter_takes_the_requests_that_meet_it() -> None:
    text = SHOP + V2 + group("{name: beta, headers: {x-beta: ^yes$}}", name="beta")
    text += split("[{service: api-v2, weight: 1}]", matches="[{kind: HTTPRouteGroup, name: beta}]")
    beta, others = ask(text, request(x_beta="yes")), ask(text, request())
    assert (beta.split, beta.split_match, beta.ways[0].service) == (
        "shop/rollout",
        "shop/beta/beta",
        "shop/api-v2",
    )
    assert (others.split, others.ways[0].service) == ("", "shop/api")


def test_weight_zero_and_sleeping_backends_are_left_out() -> None:
    text = SHOP + V2.replace("spec:\n  template", "spec:\n  replicas: 0\n  template")
    answer = ask(text + split("[{service: api, weight: 0}, {service: api-v2, weight: 1}]"), request())
    assert answer.trouble == "no backend of TrafficSplit shop/rollout can take it: 503"
    assert [out.why for out in answer.left_out] == ["its weight is 0", "it has no ready endpoint"]
    assert answer.passing == 0


def test_a_connection_is_asked_by_port() -> None:
    opaque = SHOP.replace("{name: http, port: 80", "{name: tcp, port: 80").replace("name: http", "name: tcp")
    opaque = opaque.replace("targetPort: http", "targetPort: tcp") + tcp(8080)
    text = opaque + target("[{kind: TCPRoute, name: ports}]")
    assert only(ask(text)) == Permit("shop/web-to-api")
    looked_at = ask(text, request())
    assert looked_at.seen == "tcp"
    assert "declared as tcp" in looked_at.assumed[0]
    assert ask(text).ways[0].verdicts[0].rules == ("spec.rules[0]",)


def test_udp_needs_a_udp_route() -> None:
    text = SHOP.replace("targetPort: http}", "targetPort: 53, protocol: UDP}") + tcp()
    udp = (
        "apiVersion: specs.smi-spec.io/v1alpha4\nkind: UDPRoute\nmetadata: {name: u, namespace: shop}\n---\n"
    )
    denied = ask(text + target("[{kind: TCPRoute, name: ports}]"), udp=True)
    assert "it has no UDPRoute" in denied.ways[0].verdicts[0].misses[0].text
    assert ask(text + udp + target("[{kind: UDPRoute, name: u}]"), udp=True).passing == 1


def test_a_permissive_namespace_lets_through_and_says_what_it_would_not() -> None:
    lax = SHOP.replace("{name: shop, ", "{name: shop, annotations: {smi-mesh.io/mode: permissive}, ")
    answer = ask(lax + group(READ) + target(ITEMS), request("PUT"))
    permit = only(answer)
    assert isinstance(permit, Permit)
    assert permit.note == "permissive"
    assert "method PUT" in answer.ways[0].verdicts[0].misses[0].text
    assert answer.passing == 1


def test_a_caller_without_a_sidecar_has_no_identity_and_no_split() -> None:
    bare = SHOP.replace("{template: {spec: {serviceAccountName: web",
                        "{template: {metadata: {labels: {smi-mesh.io/inject: disabled}}, spec: "
                        "{serviceAccountName: web")  # fmt: skip
    answer = ask(bare + V2 + split("[{service: api-v2, weight: 1}]"), request())
    denial = only(answer)
    assert isinstance(denial, Denial)
    assert denial.reason == "no-identity"
    assert (answer.peer, answer.split, answer.ways[0].service) == (None, "", "shop/api")
    assert any("no TrafficSplit applies" in text for text in answer.assumed)


def test_a_destination_without_a_sidecar_enforces_nothing() -> None:
    plain = SHOP.replace("metadata: {labels: {app: api}}",
                         "metadata: {labels: {app: api, smi-mesh.io/inject: disabled}}")  # fmt: skip
    answer = ask(plain, request())
    assert only(answer) is None
    assert answer.passing == 1


def test_policies_alone_are_enough() -> None:
    policies = NAMESPACE + group(READ) + target(ITEMS)
    answer = ask(policies, request(), port=8080)
    assert only(answer) == Permit("shop/web-to-api", "shop/items/read")
    assert len(answer.assumed) == 2
    services = NAMESPACE + API[API.index("apiVersion: v1") :] + group(READ) + target(ITEMS)
    assert isinstance(only(ask(services, request("PUT"))), Denial)


@pytest.mark.parametrize(
    ("host", "port", "trouble"),
    [
        ("elsewhere.example", 443, "nothing in it is called elsewhere.example:443"),
        ("api", 81, "Service shop/api has no port 81/TCP; its ports: 80/TCP"),
    ],
)
def test_what_the_mesh_does_not_know_leaves_it(host: str, port: int, trouble: str) -> None:
    answer = ask(SHOP, request(), host=host, port=port)
    assert answer.trouble.startswith(trouble)
    assert answer.ways == ()


@pytest.mark.parametrize(
    "host", ["api", "api.shop", "api.shop.svc", "api.shop.svc.cluster.local", "API.shop."]
)
def test_every_name_of_a_service_leads_to_it(host: str) -> None:
    assert ask(SHOP, request(), host=host).destination.service == "shop/api"


@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from(["/items", "/items/1", "/"]),
    st.sampled_from(["web", "api", "other"]),
    st.sampled_from(["", "admin", "me"]),
    st.lists(st.sampled_from([READ, WRITE, "{name: any}"]), max_size=3),
)
def test_misses_are_said_exactly_when_nothing_allows_it(
    method: str, path: str, source: str, role: str, matches: list[str]
) -> None:
    headers = {"x-role": role} if role else {}
    call = request(method, path, **headers)
    answer = ask(
        SHOP + group(*matches or ["{name: none, methods: [NONE]}"]) + target(ITEMS), call, source=source
    )
    (verdict,) = answer.ways[0].verdicts
    assert verdict.passes is not bool(verdict.misses)
    wanted = source == "web" and (
        "{name: any}" in matches
        or (READ in matches and (method, path) == ("GET", "/items"))
        or (WRITE in matches and (method, path, role) == ("POST", "/items", "admin"))
    )
    assert verdict.passes is wanted


@given(
    st.lists(st.tuples(st.sampled_from([*CORE_KINDS, *SMI_KINDS, "Deployment"]), JSON), max_size=4),
    st.sampled_from(["a", "shop", "api", "10.0.0.1", "::1", "..", "a.b.c.d"]),
    st.booleans(),
)
def test_no_manifests_can_make_it_fail(objects: list[tuple[str, object]], host: str, udp: bool) -> None:
    text = SHOP + group(READ) + target(ITEMS)
    for number, (kind, spec) in enumerate(objects):
        metadata = {"name": "api" if number % 2 else "a", "namespace": "shop"}
        version = f"{SMI_KINDS[kind]}/v1alpha4" if kind in SMI_KINDS else "v1"
        text += (
            json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}) + "\n---\n"
        )
    answer = ask(text, None if udp else request(), host=host, udp=udp)
    assert 0 <= answer.passing <= 1
    assert sum(way.share for way in answer.ways) == (1 if answer.ways else 0)
    question = Question(NamespacedName("shop", "web"), host, 80, None if udp else request(), udp)
    assert all("\n" not in line for line in lines(question, answer, lambda _ref, _field: ""))
    json.dumps(plain(question, answer, lambda _ref, _field: ""))


def test_the_command_answers_in_words_and_points_at_lines(tmp_path: Path) -> None:
    text = SHOP + group(READ) + target(ITEMS)
    file = tmp_path / "m.yaml"
    file.write_text(text)
    command = ["explain", "--from", "web.shop", "--to", "api.shop:80", "-f", str(tmp_path)]
    allowed = CliRunner().invoke(main, [*command, "GET", "//items?x=1", "-H", "Host: api", "-H", "a: b"])
    assert allowed.exit_code == 0, allowed.output
    assert "\nALLOWED\n" in allowed.stdout
    read_line = line_of(text, "name: read")
    assert f"match read of HTTPRouteGroup shop/items  ({file}:{read_line})" in allowed.stdout
    denied = CliRunner().invoke(main, [*command, "DELETE", "/items", "-o", "json"])
    document = json.loads(denied.stdout)
    assert (document["allowed"], document["backends"][0]["probability"]) == (0, 1)
    assert denied.exit_code == 3
    (verdict,) = document["backends"][0]["verdicts"]
    assert verdict["reason"] == "route-not-allowed"
    assert verdict["misses"] == [
        {
            "trafficTarget": "shop/web-to-api",
            "miss": "method DELETE is not in match read of HTTPRouteGroup shop/items",
        }
    ]


def test_the_manual_shows_what_the_command_says(tmp_path: Path) -> None:
    manifests = Path("cli/demo/manifests")
    for name, as_in_manual in (("shop", "shop"), ("allow-items", "allow"), ("split-90-10", "split")):
        (tmp_path / f"{as_in_manual}.yaml").write_text((manifests / f"{name}.yaml").read_text())
    command = [
        "explain",
        "--from",
        "web.shop",
        "--to",
        "api.shop:8080",
        "DELETE",
        "/items",
        "-f",
        str(tmp_path),
    ]
    said = CliRunner().invoke(main, command).stdout.replace(f"{tmp_path}", "shop")
    shown, _, _ = Path("docs/explain.md").read_text(encoding="utf-8").partition("  …\n")
    answer = shown.partition("-f shop/\n")[2].rstrip()
    assert "DENIED" in answer
    assert said.startswith(answer)


UDP_API = BASE.replace("port: 80,", "protocol: UDP, port: 80,").replace(
    "containerPort: 8080}", "protocol: UDP, containerPort: 8080}"
)


@pytest.mark.parametrize(
    ("text", "to", "code"),
    [
        (SHOP + group(READ) + target(ITEMS), "api:80", 0),
        (SHOP + group(READ), "api:80", 3),
        (
            SHOP + V2 + group(READ) + target(ITEMS)
            + split("[{service: api, weight: 2}, {service: api-v2, weight: 1}]"),
            "api:80",
            4,
        ),
        (SHOP + split("[{service: api, weight: 0}]"), "api:80", 5),
        (SHOP, "api:81", 6),
        (SHOP, "elsewhere.example:80", 6),
        (SHOP, "api", 2),
    ],
)  # fmt: skip
def test_exit_codes_tell_the_answers_apart(tmp_path: Path, text: str, to: str, code: int) -> None:
    (tmp_path / "m.yaml").write_text(text)
    command = ["explain", "--from", "web.shop", "--to", to, "GET", "/items", "-f"]
    done = CliRunner().invoke(main, [*command, str(tmp_path)])
    assert done.exit_code == code, done.output
    assert CliRunner().invoke(main, [*command, str(tmp_path / "gone")]).exit_code == (2 if code == 2 else 1)


def excluding(ports: str, text: str = SHOP) -> str:
    return text.replace(
        "spec: {template: {spec: {serviceAccountName: web,",
        f'spec: {{template: {{metadata: {{annotations: {{smi-mesh.io/exclude-outbound-ports: "{ports}"}}}}, '
        "spec: {serviceAccountName: web,",
    )


def test_a_port_that_the_callers_sidecar_leaves_alone_takes_identity_and_split_away() -> None:
    rules = V2 + group(READ) + target(ITEMS) + split("[{service: api-v2, weight: 1}]")
    past = ask(excluding("80") + rules, request())
    denial = only(past)
    assert isinstance(denial, Denial)
    assert (past.peer, denial.reason, past.split) == (None, "no-identity", "")
    assert [way.service for way in past.ways] == ["shop/api"]
    assert any("leaves port 80 alone" in text for text in past.assumed)
    for ports in ("8080", "443,8080"):  # the port that is dialled counts, not the pod's
        assert ask(excluding(ports) + rules, request()).split == "shop/rollout"


def test_where_nothing_is_redirected_excluded_ports_change_nothing() -> None:
    documents, _ = read("m.yaml", excluding("80") + group(READ) + target(ITEMS))
    world = imagine(Manifests(tuple(documents))).world
    question = Question(NamespacedName("shop", "web"), "api", 80, request())
    answer = explain(world, question, imagined=True, interception=Interception(redirected=False, udp=False))
    assert answer.passing == 1


def test_udp_that_no_sidecar_sees_is_let_through() -> None:
    documents, _ = read("m.yaml", UDP_API + WEB)
    world = imagine(Manifests(tuple(documents))).world
    question = Question(NamespacedName("shop", "web"), "api", 80, udp=True)
    seen = explain(world, question, imagined=True)
    assert seen.passing == 0
    unseen = explain(world, question, imagined=True, interception=Interception(udp=False))
    assert unseen.passing == 1
    assert unseen.peer is None
    assert "does not intercept UDP" in unseen.assumed[0]


def test_dns_goes_past_sidecars() -> None:
    answer = ask(UDP_API.replace("port: 80,", "port: 53,") + WEB, port=53, udp=True)
    denial = only(answer)
    assert isinstance(denial, Denial)
    assert denial.reason == "no-identity"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "api", "GET", "/"], "expected HOST:PORT"),
        (["--to", "api:80", "GET", "items"], "the proxies answer 400"),
        (["--to", "api:80", "GET", "/", "-H", "novalue"], "expected 'name: value'"),
        (["--to", "api:80", "GET", "/", "--udp"], "exclude each other"),
    ],
)
def test_a_question_that_cannot_be_asked(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "m.yaml").write_text(SHOP)
    result = CliRunner().invoke(main, ["explain", "--from", "web.shop", "-f", str(tmp_path), *words])
    assert (result.exit_code, said in result.stderr) == (2, True), result.output


def test_percent() -> None:
    shares = [Fraction(1), Fraction(1, 3), Fraction(1, 10), Fraction(0)]
    assert [percent(share) for share in shares] == ["100 %", "33.33 %", "10 %", "0 %"]


LIMITED = SHOP.replace(
    "kind: Service\nmetadata: {name: api, namespace: shop}\n",
    """kind: Service
metadata:
  name: api
  namespace: shop
  annotations:
    smi-mesh.io/rate-limit: 100/s; 5/m per client on items/read; 7/s from batch; 3/x
    smi-mesh.io/connection-rate-limit: 2/s
    smi-mesh.io/circuit-breaker: max-requests=9
    smi-mesh.io/outlier-detection: consecutive-errors=4 base-ejection-time=1500ms
""",
)


def told(text: str, call: Request | None = None) -> str:
    question = Question(NamespacedName("shop", "web"), "api", 80, call)
    documents, _ = read("m.yaml", text)
    answer = explain(imagine(Manifests(tuple(documents))).world, question, imagined=True)
    return "\n".join(lines(question, answer, lambda _ref, field: field))


def test_the_limits_that_apply_are_named() -> None:
    assert LIMITED != SHOP
    text = LIMITED + group(READ) + target(ITEMS)
    said = told(text, request())
    rate = "  (metadata.annotations.smi-mesh.io/rate-limit)"
    assert f"rate limit of Service shop/api: 100/s{rate}" in said
    assert f"rate limit of Service shop/api: 5/m per client on items/read{rate}" in said
    assert "from shop/batch" not in said
    assert "circuit breaker of Service shop/api: max-requests=9  (metadata" in said
    assert (
        "outlier detection of Service shop/api: consecutive-errors=4 base-ejection-time=1500ms "
        "max-ejection-time=300s max-ejection-percent=10%"
    ) in said
    assert "'3/x': expected requests per s, m or h" in said  # the findings that touch it


def test_limits_of_requests_say_nothing_of_connections_nor_of_what_is_denied() -> None:
    assert "rate limit" not in told(LIMITED + group(READ) + target(ITEMS), request("DELETE"))
    said = told(LIMITED + tcp(8080) + target("[{kind: TCPRoute, name: ports}]"))
    assert "rate limit of Service shop/api: 2/s" in said
    assert "100/s" not in said.partition("findings")[0]
