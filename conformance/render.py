"""Reports for people and for machines: YAML, JUnit XML, one HTML file. Pure text."""

from __future__ import annotations

from html import escape
from typing import Final
from xml.sax.saxutils import escape as xml_escape
from xml.sax.saxutils import quoteattr

import yaml

from conformance.features import Group
from conformance.report import Outcome, Result, Run, document


def write_yaml(run: Run) -> str:
    """The versioned report (`report-schema.json`)."""
    return yaml.safe_dump(document(run), sort_keys=False, allow_unicode=True, width=110)


def write_junit(run: Run) -> str:
    """JUnit XML, one suite per group. A partial run is an error of its own: it must not look green."""
    suites = [_suite(group, [r for r in run.results if r.case.group is group]) for group in Group]
    if run.interrupted:
        suites.append(
            '<testsuite name="run" tests="1" errors="1"><testcase classname="run" name="complete">'
            '<error message="interrupted: not every case ran"/></testcase></testsuite>'
        )
    body = "\n".join(suites)
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{head}\n<testsuites name="SMI conformance">\n{body}\n</testsuites>\n'


def _suite(group: Group, results: list[Result]) -> str:
    count = {outcome: sum(r.outcome is outcome for r in results) for outcome in Outcome}
    seconds = sum(result.seconds for result in results)
    head = (
        f'<testsuite name="{group}" tests="{len(results)}" failures="{count[Outcome.FAILED]}" '
        f'errors="{count[Outcome.ERROR]}" skipped="{count[Outcome.SKIPPED]}" time="{seconds:.2f}">'
    )
    return "\n".join([head, *(_testcase(result) for result in results), "</testsuite>"])


def _testcase(result: Result) -> str:
    names = f"classname={quoteattr(result.case.feature)} name={quoteattr(result.case.name)}"
    head = f'<testcase {names} time="{result.seconds:.2f}"'
    tag = {Outcome.FAILED: "failure", Outcome.ERROR: "error", Outcome.SKIPPED: "skipped"}.get(result.outcome)
    if tag is None:
        return head + "/>"
    message = "".join(c for c in result.message if c in "\n\t" or ord(c) >= 32)
    short = quoteattr(message.partition("\n")[0][:200])
    return f"{head}><{tag} message={short}>{xml_escape(message)}</{tag}></testcase>"


_STYLE: Final = """
:root{color-scheme:light dark;--ok:#1a7f37;--bad:#cf222e;--dim:#6e7781;--line:#d0d7de}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
.passed{color:var(--ok)}.failed,.error{color:var(--bad);font-weight:600}.skipped{color:var(--dim)}
small{color:var(--dim)}pre{white-space:pre-wrap;margin:.2rem 0}code{font-size:.95em}
"""


def write_html(run: Run) -> str:
    """One file without any other: the verdict, counts per group and level, and every case."""
    rows = "\n".join(_group_row(run, group) for group in Group)
    cases = "\n".join(_case_row(result) for result in run.results)
    facts = "".join(
        f"<tr><th>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>"
        for key, value in run.environment.items()
    )
    troubles = "".join(f"<p class=failed>{escape(text)}</p>" for text in run.troubles)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>SMI conformance: {escape(run.mesh)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>
<h1>SMI conformance: {escape(run.mesh)}</h1>
<p>Verdict: <strong class="{"passed" if run.verdict.value == "pass" else "failed"}">{run.verdict}</strong>
· {run.last_line} of {run.expected} · {escape(run.began)} · {run.seconds:.1f} s</p>
<p><code>{escape(run.reproduce)}</code></p>{troubles}
<table><tr><th>group<th>core<th>extended<th>implementation-specific<th>unsupported features</tr>
{rows}</table>
<table>{facts}</table>
<table><tr><th>case<th>requirement<th>outcome</tr>
{cases}</table></html>
"""


def _group_row(run: Run, group: Group) -> str:
    parts = document_group(run, group)
    cells = "".join(f"<td>{cell}</td>" for cell in parts)
    return f"<tr><th>{group}</th>{cells}</tr>"


def document_group(run: Run, group: Group) -> tuple[str, ...]:
    """Cells of one group: passed/applicable per level, and what the mesh does not claim."""
    found = document(run)["groups"][group.value]
    levels = ("core", "extended", "implementation-specific")
    cells = [
        f"{found[level]['passed']}/{found[level]['passed'] + found[level]['failed']}"
        + (f" ({found[level]['skipped']} skipped)" if found[level]["skipped"] else "")
        for level in levels
    ]
    return (*cells, escape(", ".join(found["unsupported"])) or "none")


def _case_row(result: Result) -> str:
    case = result.case
    refs = "".join(
        f"<div>{escape(ref.requirement)} "
        f"<small>{ref.document} {ref.version}, {escape(ref.section)}</small></div>"
        for ref in case.refs
    )
    rules = f"<small>{' '.join(case.rules)}</small>" if case.rules else ""
    message = f"<pre>{escape(result.message)}</pre>" if result.message else ""
    return (
        f"<tr><td><code>{case.group}/{case.name}</code><br><small>{case.feature}, {case.level}</small></td>"
        f"<td>{refs}{rules}</td>"
        f"<td class={result.outcome}>{result.outcome} <small>{result.seconds:.1f} s</small>"
        f"{message}</td></tr>"
    )
