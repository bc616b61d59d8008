"""`smi-mesh lint`: what is said, on which line, in which form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema

from cli.explain.documents import Place, read
from cli.explain.lint import lint
from cli.explain.manifests import Manifests
from cli.explain.patterns import branches, has_end, has_start, impossible_path
from cli.explain.remarks import RULES, Check, Level, Remark
from cli.explain.sarif import sarif
from cli.main import main
from controller.compile.read import CORE_KINDS, SMI_KINDS
from smi.findings import Reason

NAMESPACE = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {smi-mesh.io/inject: enabled}}
---
"""
API = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  template:
    metadata: {labels: {app: api}}
    spec:
      serviceAccountName: api
      containers: [{name: api, ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec:
  selector: {app: api}
  ports:
  - {name: http, port: 80, targetPort: http}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
"""


def group(*matches: str, name: str = "items") -> str:
    lines = "\n".join(f"  - {match}" for match in matches)
    return f"""\
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata:
  name: {name}
  namespace: shop
spec:
  matches:
{lines}
---
"""


def target(rules: str, *, source: str = "web", name: str = "web-to-api") -> str:
    return f"""\
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata:
  name: {name}
  namespace: shop
spec:
  destination: {{kind: ServiceAccount, name: api}}
  sources:
  - {{kind: ServiceAccount, name: {source}}}
  rules: {rules}
---
"""


def tcp(*ports: int) -> str:
    return f"""\
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {{name: ports, namespace: shop}}
spec: {{matches: {{ports: {list(ports)}}}}}
---
"""


def split(backends: str, *, name: str = "rollout", matches: str = "", created: str = "2026-01-01") -> str:
    return f"""\
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata:
  name: {name}
  namespace: shop
  creationTimestamp: {created}T00:00:00Z
spec:
  service: api
  backends: {backends}
{f"  matches: {matches}" if matches else ""}
---
"""


ITEMS = "[{kind: HTTPRouteGroup, name: items}]"
READ = "{name: read, pathRegex: '/items$', methods: [GET]}"
BASE = NAMESPACE + API


def remarks_of(text: str) -> tuple[Remark, ...]:
    documents, complaints = read("m.yaml", text)
    return lint(Manifests(tuple(documents), tuple(complaints)))


def line_of(text: str, part: str) -> int:
    """The number of the first line that has a text in it."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_good_manifests_have_no_remark() -> None:
    assert remarks_of(BASE + group(READ) + target(ITEMS)) == ()


@pytest.mark.parametrize(
    ("text", "rule", "level", "part"),
    [
        (BASE + target(ITEMS), Reason.ROUTE_NOT_FOUND, Level.ERROR, "rules:"),
        (
            BASE + group(READ) + target("[{kind: HTTPRouteGroup, name: items, matches: [read, write]}]"),
            Reason.MATCH_NOT_FOUND,
            Level.ERROR,
            "rules:",
        ),
        (BASE + split("[{service: gone, weight: 1}]"), Reason.BACKEND_NOT_FOUND, Level.ERROR, "gone"),
        (BASE + tcp(80) + target("[{kind: TCPRoute, name: ports}]"), Reason.SERVICE_PORT_AS_POD_PORT,
         Level.ERROR, "rules:"),
        (BASE + tcp(9999) + target("[{kind: TCPRoute, name: ports}]"), Check.PORT_NOT_DECLARED,
         Level.WARNING, "rules:"),
        (BASE.replace("targetPort: http", "targetPort: web"), Check.PORT_NOT_DECLARED, Level.ERROR,
         "  ports:"),
        (BASE + group(READ) + target(ITEMS, source="wbe"), Check.ACCOUNT_NOT_FOUND, Level.WARNING, "wbe"),
        (BASE + group("{name: bad, pathRegex: /items}") + target(ITEMS), Check.PEERS_DIFFER, Level.WARNING,
         "name: bad"),
        (BASE + group("{name: bad, headers: {x-beta: yes!}}") + target(ITEMS), Check.PEERS_DIFFER,
         Level.WARNING, "name: bad"),
        (BASE + group("{name: bad, pathRegex: 'items.*'}") + target(ITEMS), Check.UNREACHABLE, Level.WARNING,
         "name: bad"),
        (BASE + group("{name: bad, pathRegex: '/a[$'}") + target(ITEMS), Reason.INVALID_PATTERN, Level.ERROR,
         "name: bad"),
        (
            BASE.replace("{name: http, port: 80", "{name: tcp, port: 80").replace("name: http", "name: tcp")
            .replace("targetPort: http", "targetPort: tcp") + group(READ) + target(ITEMS),
            Check.UNREACHABLE,
            Level.WARNING,
            "rules:",
        ),
        (BASE + group(READ), Check.UNUSED, Level.NOTE, "name: items"),
        (
            BASE + group(READ, "{name: write, methods: [POST]}")
            + target("[{kind: HTTPRouteGroup, name: items, matches: [read]}]"),
            Check.UNUSED,
            Level.NOTE,
            "name: write",
        ),
        (
            BASE.replace("{app: api}}\n    spec:", "{app: api}, annotations: "
                         "{smi-mesh.io/workers: many}}\n    spec:"),
            Check.NOT_INJECTABLE,
            Level.ERROR,
            "kind: Deployment",
        ),
        ("a: [1\nb: 2", Check.NOT_YAML, Level.ERROR, "b: 2"),
    ],
)  # fmt: skip
def test_each_mistake_is_said_on_its_line(text: str, rule: str, level: Level, part: str) -> None:
    remarks = remarks_of(text)
    assert [(one.rule, one.level) for one in remarks] == [(rule, level)]
    if part == "kind: Deployment":
        assert remarks[0].place.line == line_of(text, part) + 1  # the name is on the next line
    else:
        assert remarks[0].place.line == line_of(text, part)


def test_services_may_be_kept_elsewhere() -> None:
    remarks = remarks_of(NAMESPACE + split("[{service: gone, weight: 1}]"))
    assert {(one.rule, one.level) for one in remarks} == {
        (Reason.BACKEND_NOT_FOUND, Level.NOTE),
        (Reason.ROOT_NOT_FOUND, Level.NOTE),
    }


def test_of_two_catch_all_splits_the_younger_has_no_effect() -> None:
    text = (
        BASE
        + split("[{service: api, weight: 1}]", name="young", created="2026-01-02")
        + split("[{service: api, weight: 1}]", name="old")
    )
    (remark,) = (one for one in remarks_of(text) if one.rule == Reason.CONFLICTED)
    assert (remark.level, remark.subject) == (Level.ERROR, "TrafficSplit shop/young")
    assert remark.place.line == line_of(text, "  service: api")


def test_a_filter_that_an_older_split_takes_is_unreachable() -> None:
    filters = "[{kind: HTTPRouteGroup, name: items}]"
    text = (
        BASE
        + group(READ)
        + split("[{service: api, weight: 1}]", name="old", matches=filters)
        + split("[{service: api, weight: 1}]", name="young", matches=filters, created="2026-01-02")
    )
    (remark,) = (one for one in remarks_of(text) if one.rule == Check.UNREACHABLE)
    assert remark.subject == "TrafficSplit shop/young"
    assert "goes to TrafficSplit shop/old, which comes first" in remark.message


@pytest.mark.parametrize(
    ("old", "young", "taken"),
    [
        # What the young one asks for, the old one takes, however it is written.
        ("{name: m, pathRegex: '/a/.*'}", "{name: m, pathRegex: '/a/[a-z]+$', methods: [GET]}", "old"),
        ("{name: m, pathRegex: '/(a|b)$'}", "{name: m, pathRegex: '/[ab]$'}", "old"),
        ("{name: m, methods: [GET, POST]}", "{name: m, methods: [POST], pathRegex: '.*'}", "old"),
        ("{name: m, headers: {x: '^a'}}", "{name: m, headers: {x: '^ab$'}}", "old"),
        # More filters, or a longer beginning, come before age (R4).
        ("{name: m, pathRegex: '/a.*'}", "{name: m, pathRegex: '/a/b'}", ""),
        ("{name: m, pathRegex: '/a.*'}", "{name: m, pathRegex: '/a.*', headers: {x: y}}", ""),
        ("{name: m, pathRegex: '/a/b'}", "{name: m, pathRegex: '/a.*'}", ""),
        ("{name: m, methods: [GET]}", "{name: m, pathRegex: '.*'}", ""),
        ("{name: m, headers: {x: '^ab'}}", "{name: m, headers: {x: '^a'}}", ""),
        ("{name: m, pathRegex: '/a.*'}", "{name: m, pathRegex: '/b.*'}", ""),
        # Not looked into: nothing is claimed.
        (r"{name: m, pathRegex: '/a\b.*'}", "{name: m, pathRegex: '/a$'}", ""),
    ],
)
def test_a_filter_is_unreachable_only_if_all_it_asks_for_goes_elsewhere(
    old: str, young: str, taken: str
) -> None:
    text = BASE + group(old, name="older") + group(young, name="newer")
    for name, group_name, created in (("old", "older", "2026-01-01"), ("young", "newer", "2026-01-02")):
        filters = f"[{{kind: HTTPRouteGroup, name: {group_name}}}]"
        text += split("[{service: api, weight: 1}]", name=name, matches=filters, created=created)
    said = [one for one in remarks_of(text) if one.rule == Check.UNREACHABLE]
    assert [one.subject for one in said] == ["TrafficSplit shop/young"] * bool(taken)


def test_several_that_come_first_may_take_everything_together() -> None:
    text = BASE + group("{name: m, pathRegex: '/[ab]x$'}", name="both")
    text += group("{name: m, pathRegex: '/a.*'}", name="a") + group("{name: m, pathRegex: '/b.*'}", name="b")
    for number, name in enumerate(("a", "b", "both"), 1):
        filters = f"[{{kind: HTTPRouteGroup, name: {name}}}]"
        text += split("[{service: api, weight: 1}]", name=name, matches=filters, created=f"2026-01-0{number}")
    (remark,) = (one for one in remarks_of(text) if one.rule == Check.UNREACHABLE)
    assert "one of TrafficSplits shop/a, shop/b" in remark.message


@pytest.mark.parametrize(
    ("pattern", "rule", "words"),
    [
        ("/items", Check.PEERS_DIFFER, "'/items/' too"),
        ("/items(/.*)?", Check.PEERS_DIFFER, "'/itemsa' too"),
        ("/items(/.*|$)", None, ""),
        ("/a((b$)|(c.*))", None, ""),
        ("/(a|b.*)$|/c$", None, ""),
        (r"/a\b", Check.PEERS_DIFFER, "every path that begins with a match meets it, in"),
        (r"/a\b.*", None, ""),
        ("[^/*].*", Check.UNREACHABLE, "no path has this form"),
        ("(items|things)$", Check.UNREACHABLE, "no path has this form"),
        ("items$|things$", Check.UNREACHABLE, "every path begins with '/'"),
        ("/a/(b//c|../d)$", None, ""),
        ("/a/(b//c|[.][.]/d)$", Check.UNREACHABLE, ""),
    ],
)
def test_what_a_path_pattern_means_is_looked_into(pattern: str, rule: str | None, words: str) -> None:
    text = BASE + group(f"{{name: m, pathRegex: '{pattern}'}}") + target(ITEMS)
    said = remarks_of(text)
    assert [one.rule for one in said] == ([] if rule is None else [rule])
    assert not said or words in said[0].message


@pytest.mark.parametrize(
    ("pattern", "rule", "words"),
    [
        ("yes", Check.PEERS_DIFFER, "('/yes' meets it)"),
        ("^yes$", None, ""),
        ("^(a|b)$", None, ""),
        ("(^a$)|(^b$)", None, ""),
        (".*a.*", None, ""),
        ("^$x", Check.UNREACHABLE, "no value meets"),
        ("^ a", Check.UNREACHABLE, "no value meets"),
    ],
)
def test_what_a_header_filter_means_is_looked_into(pattern: str, rule: str | None, words: str) -> None:
    text = BASE + group(f"{{name: m, headers: {{x-a: '{pattern}'}}}}") + target(ITEMS)
    said = remarks_of(text)
    assert [one.rule for one in said] == ([] if rule is None else [rule])
    assert not said or words in said[0].message


def test_of_two_objects_of_one_name_the_first_is_pointed_out() -> None:
    text = BASE + group(READ) + group(READ) + target(ITEMS)
    (remark,) = remarks_of(text)
    assert (remark.rule, remark.place.line) == (Check.DUPLICATE, line_of(text, "name: items"))


def test_old_versions_point_at_the_fields_their_authors_wrote() -> None:
    text = """\
apiVersion: access.smi-spec.io/v1alpha1
kind: TrafficTarget
metadata: {name: old, namespace: shop}
destination: {kind: ServiceAccount, name: api, port: 8080}
sources:
- {kind: ServiceAccount, name: web}
specs:
- {kind: HTTPRouteGroup, name: items}
- {kind: HTTPRouteGroup,
   name: nowhere}
---
apiVersion: specs.smi-spec.io/v1alpha2
kind: HTTPRouteGroup
metadata: {name: items, namespace: shop}
matches:
- name: read
  pathRegex: /items$
  headers:
  - host: ^a$
  - X-Beta: yes!
"""
    found = {one.rule: one.place.line for one in remarks_of(text)}
    assert found == {Reason.ROUTE_NOT_FOUND: 10, Check.PEERS_DIFFER: 20}


def test_lists_are_taken_apart() -> None:
    text = (
        "kind: List\napiVersion: v1\nitems:\n- apiVersion: split.smi-spec.io/v1alpha4\n  kind: TrafficSplit\n"
    )
    text += "  metadata: {name: a, namespace: b}\n  spec:\n    service: x\n    backends:\n    - weight: 1\n"
    (remark,) = (one for one in remarks_of(text) if one.level is Level.ERROR)
    assert (remark.field, remark.place) == ("spec.backends[0].service", Place("m.yaml", 10, 7))


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("/a|/b", ("/a", "/b")),
        ("(/a|/b)", ("/a", "/b")),
        ("(?:/a|(/b|/c))", ("/a", "/b", "/c")),
        ("(/a)|(/b)", ("/a", "/b")),
        ("(/a)(/b)", ("(/a)(/b)",)),
        (r"/a\|b", (r"/a\|b",)),
        ("/[|)]", ("/[|)]",)),
        ("[]|]", ("[]|]",)),
        ("(?i)/a", ("(?i)/a",)),
        (r"(a\)", (r"(a\)",)),
        ("[", ("[",)),
        ("", ("",)),
    ],
)
def test_branches(pattern: str, parts: tuple[str, ...]) -> None:
    assert branches(pattern) == parts


@pytest.mark.parametrize(
    ("pattern", "end"),
    [
        ("/items", False), ("/items$", True), ("/items.*", True), (r"/items\$", False),
        (r"/items\.*", False), ("/items(/.*)?$", True), (".*", True),
        ("/a$|/b", False), ("(/a$|/b.*)", True), ("/items(/.*)?", False),
    ],
)  # fmt: skip
def test_ends(pattern: str, end: bool) -> None:
    assert has_end(pattern) is end


@pytest.mark.parametrize(
    ("pattern", "start"), [("^a", True), ("a", False), (".*a", True), ("^a|b", False), ("(^a|^b)", True)]
)
def test_starts(pattern: str, start: bool) -> None:
    assert has_start(pattern) is start


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("items", "begins with 'i'"), (r"/a\?b", "query"), ("/a//b", "slashes"), ("a|/b", ""),
        (r"/a/\.\./b", "dot segment"), ("a|b", "begins with 'a'"), (r"\*", ""), (".*", ""), ("/a?b", ""),
        ("^/a", ""),
    ],
)  # fmt: skip
def test_paths_that_cannot_be(pattern: str, words: str) -> None:
    said = impossible_path(pattern)
    assert words in said
    assert bool(said) is bool(words)


def test_every_rule_is_described() -> None:
    assert set(RULES) == {*Check, *Reason}


def test_sarif_has_the_shape_the_standard_asks_for() -> None:
    text = BASE + target(ITEMS) + "a: [1"
    log = sarif(remarks_of(text), "1.2.3")
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["semanticVersion"] == "1.2.3"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    assert len(run["results"]) == 2
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        physical = result["locations"][0]["physicalLocation"]
        assert physical["artifactLocation"] == {"uri": "m.yaml"}
        assert physical["region"]["startLine"] >= 1
        assert physical["region"]["startColumn"] >= 1
    assert run["results"][0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == (
        "TrafficTarget shop/web-to-api spec.rules[0].name"
    )
    assert json.loads(json.dumps(log)) == log


@pytest.mark.parametrize(
    "text",
    [BASE, BASE + target(ITEMS) + "a: [1", BASE + group("{name: bad, pathRegex: '/a['}") + target(ITEMS)],
    ids=["nothing to say", "broken file", "broken pattern"],
)
def test_sarif_meets_its_schema(text: str) -> None:
    """These models are generated from the schema of OASIS and refuse what it does not know."""
    log = sarif(remarks_of(text), "1.2.3")
    read = StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate(log)
    written = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written == log
    with pytest.raises(ValidationError):
        StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate({**log, "colour": "red"})


@pytest.mark.parametrize(
    ("file", "uri"),
    [("./a b.yaml", "a%20b.yaml"), ("/x/y.yaml", "file:///x/y.yaml"), ("<stdin>", "%3Cstdin%3E")],
)
def test_sarif_names_files_by_uri(file: str, uri: str) -> None:
    log = sarif([Remark(Place(file), Level.NOTE, Check.UNUSED, "x")], "1")
    location = log["runs"][0]["results"][0]["locations"][0]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_the_command_reads_files_folders_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "base.yaml").write_text(BASE)
    (tmp_path / "target.yml").write_text(target(ITEMS))
    (tmp_path / "README.md").write_text("not: [a manifest")
    runner = CliRunner()
    broken = runner.invoke(main, ["lint", "-f", str(tmp_path)])
    assert broken.exit_code == 1
    line = line_of(target(ITEMS), "rules:")
    assert broken.stdout.startswith(f"{tmp_path}/target.yml:{line}:")
    assert "error: TrafficTarget shop/web-to-api: HTTPRouteGroup shop/items does not exist" in broken.stdout
    assert broken.stderr == "5 objects: 1 error, 0 warnings, 0 notes\n"
    mended = runner.invoke(main, ["lint", "-f", str(tmp_path), "-f", "-", "-o", "json"], input=group(READ))
    assert (mended.exit_code, json.loads(mended.stdout)) == (0, [])


def test_warnings_fail_if_asked_to() -> None:
    text = BASE + group("{name: bad, pathRegex: /items}") + target(ITEMS)
    assert CliRunner().invoke(main, ["lint", "-f", "-"], input=text).exit_code == 0
    assert CliRunner().invoke(main, ["lint", "-f", "-", "--strict"], input=text).exit_code == 1


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"\xe4")
    (tmp_path / "empty").mkdir()
    for path, words in (("latin.yaml", "not UTF-8"), ("gone.yaml", "No such file"), ("empty", "no file")):
        result = CliRunner().invoke(main, ["lint", "-f", str(tmp_path / path)])
        assert (result.exit_code, words in result.stderr) == (1, True), result.stderr


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.sampled_from(["", "a", "shop", "/x", "["]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "namespace", "labels", "annotations", "template", "metadata", "spec", "containers",
                 "ports", "matches", "rules", "sources", "destination", "service", "backends", "selector"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    st.lists(
        st.tuples(st.sampled_from([*CORE_KINDS, *SMI_KINDS, "Deployment", "CronJob", "List"]), JSON, JSON),
        max_size=4,
    )
)
def test_no_object_can_make_it_fail(objects: list[tuple[str, object, object]]) -> None:
    def group_of(kind: str) -> str:
        return f"{SMI_KINDS[kind]}/v1alpha4" if kind in SMI_KINDS else "v1"

    text = "\n---\n".join(
        json.dumps({"apiVersion": group_of(kind), "kind": kind, "metadata": metadata, "spec": spec})
        for kind, metadata, spec in objects
    )
    for remark in remarks_of(text):
        assert remark.place.line >= 1
        assert remark.rule in RULES


@given(st.text(max_size=60))
def test_no_text_can_make_it_fail(text: str) -> None:
    documents, complaints = read("t", text)
    lint(Manifests(tuple(documents), tuple(complaints)))
