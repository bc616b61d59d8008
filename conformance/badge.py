"""A small picture of a report's verdict, for a README. Pure."""

from __future__ import annotations

from html import escape
from typing import Final

from conformance.published import Published

LABEL: Final = "SMI v0.6 conformance"
_COLOURS: Final = {"pass": "#2da44e", "fail": "#cf222e", "partial": "#9a6700"}
_LETTER: Final = 6.6
"""Average width of a letter at 11 px; `textLength` makes it exact wherever the font differs."""
_EDGE: Final = 8


def words(report: Published) -> str:
    """What the badge says: a failure is never hidden behind a count of passes."""
    passed, failed = report.counts["passed"], report.counts["failed"] + report.counts["error"]
    if report.verdict == "pass":
        return f"{passed} cases passed"
    if report.verdict == "fail":
        return f"{failed} of {passed + failed} cases failed"
    return f"partial, {passed} cases passed"


def draw(report: Published) -> str:
    """The badge as SVG."""
    text = words(report)
    left, right = (round(len(part) * _LETTER) for part in (LABEL, text))
    start = left + 2 * _EDGE
    whole = start + right + 2 * _EDGE
    title = f"{report.mesh}: {LABEL}: {text}"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" \
aria-label="{escape(title)}">
<title>{escape(title)}</title>
<clipPath id="r"><rect width="{whole}" height="20" rx="3"/></clipPath>
<g clip-path="url(#r)">
<rect width="{start}" height="20" fill="#57606a"/>
<rect x="{start}" width="{whole - start}" height="20" fill="{_COLOURS[report.verdict]}"/>
</g>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{_EDGE}" y="14" textLength="{left}">{escape(LABEL)}</text>
<text x="{start + _EDGE}" y="14" textLength="{right}">{escape(text)}</text>
</g>
</svg>
"""
