"""Who calls whom as a graph: from edges of TrafficMetrics to text, DOT, JSON and SVG. Pure.

Layers follow Sugiyama: edges that close a cycle are turned for the layout, long ones pass through every
layer between, and barycentres keep crossings few.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final
from xml.sax.saxutils import escape

from cli.traffic import top

_SWEEPS: Final = 4
_GOOD, _FAIR = 0.999, 0.95
"""Shares of success from which an edge counts as well, and as not quite."""


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """A resource; one without a name stands for callers and servers that nobody can name."""

    namespace: str = ""
    name: str = ""
    kind: str = ""

    def label(self, everywhere: bool) -> str:
        if not self.name:
            return "(unknown)"
        return f"{self.namespace}/{self.name}" if everywhere and self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls from `source` to `target`, as `side` saw them."""

    source: Node
    target: Node
    side: str
    numbers: top.Numbers

    @property
    def label(self) -> str:
        success, rate, *_, slow = top.cells(self.numbers)
        return f"{rate} {success} p99 {slow}"


@dataclass(frozen=True, slots=True)
class Graph:
    """Edges sorted by their ends, one for each pair."""

    edges: tuple[Edge, ...]

    @property
    def nodes(self) -> list[Node]:
        return sorted({node for edge in self.edges for node in (edge.source, edge.target)})


def of_edges(items: Iterable[Mapping[str, Any]]) -> Graph:
    """From items of `/edges` of any implementation. What the server saw counts, else what the client saw."""
    found: dict[tuple[Node, Node], Edge] = {}
    for item in items:
        numbers = top.numbers(item)
        if not numbers.total:
            continue
        edge, itself = item["edge"], _node(item["resource"])
        other = _node(edge.get("resource") or {})
        source, target = (itself, other) if edge["direction"] == "to" else (other, itself)
        known = found.get((source, target))
        if known is None or (known.side == "client" and edge.get("side") == "server"):
            found[source, target] = Edge(source, target, str(edge.get("side") or ""), numbers)
    return Graph(tuple(found[pair] for pair in sorted(found)))


def _node(reference: Mapping[str, Any]) -> Node:
    if not reference.get("name"):
        return Node()
    return Node(
        str(reference.get("namespace") or ""), str(reference["name"]), str(reference.get("kind") or "")
    )


# --- for programs ------------------------------------------------------------------------------------


def as_json(graph: Graph, _everywhere: bool) -> str:
    """Nodes and edges; latencies in seconds, rate in requests per second."""

    def shown(node: Node) -> dict[str, str]:
        return {"kind": node.kind, "namespace": node.namespace, "name": node.name}

    document = {
        "nodes": [shown(node) for node in graph.nodes],
        "edges": [
            {
                "from": shown(edge.source),
                "to": shown(edge.target),
                "side": edge.side,
                "requests": int(edge.numbers.total),
                "rate": round(edge.numbers.rate, 3),
                "success": round(edge.numbers.share, 6),
                "p50": float(edge.numbers.p50),
                "p99": float(edge.numbers.p99),
            }
            for edge in graph.edges
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def as_dot(graph: Graph, everywhere: bool) -> str:
    """The DOT language of Graphviz."""
    lines = ["digraph traffic {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
    ids = {node: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines += [f"  {ids[node]} [label={_quoted(node.label(everywhere))}];" for node in graph.nodes]
    lines += [
        f"  {ids[edge.source]} -> {ids[edge.target]} "
        f"[label={_quoted(edge.label)}, color={_quoted(_COLOURS[_health(edge)])}];"
        for edge in graph.edges
    ]
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_COLOURS: Final = {"good": "#2a9d5c", "fair": "#d08a00", "bad": "#d33d3d"}


def _health(edge: Edge) -> str:
    share = edge.numbers.share
    return "good" if share >= _GOOD else "fair" if share >= _FAIR else "bad"


# --- layout ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Hop:
    """A part of an edge from one layer to the next. Ends are nodes, or numbers of places passed through."""

    start: Node | int
    end: Node | int
    edge: Edge
    turned: bool
    """The call goes from `end` to `start`."""
    first: bool
    last: bool


@dataclass(slots=True)
class _Layout:
    layers: list[list[Node | int]]
    hops: list[_Hop] = field(default_factory=list)


def _layout(graph: Graph) -> _Layout:
    forward = _acyclic(graph)
    depth = _depths(graph.nodes, [(start, end) for start, end, _, _ in forward])
    layers: list[list[Node | int]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in graph.nodes:
        layers[depth[node]].append(node)
    found = _Layout(layers)
    passes = 0
    for start, end, edge, turned in forward:
        at: Node | int = start
        for level in range(depth[start] + 1, depth[end] + 1):
            last = level == depth[end]
            if last:
                step: Node | int = end
            else:
                passes += 1
                step = passes
                layers[level].append(step)
            found.hops.append(_Hop(at, step, edge, turned, at == start, last))
            at = step
    _order(found)
    return found


def _acyclic(graph: Graph) -> list[tuple[Node, Node, Edge, bool]]:
    """(start, end, edge, turned) without cycles; calls to oneself are left out."""
    following: defaultdict[Node, list[Edge]] = defaultdict(list)
    surplus: defaultdict[Node, float] = defaultdict(float)
    called = set()
    for edge in graph.edges:
        if edge.source != edge.target:
            following[edge.source].append(edge)
            called.add(edge.target)
            surplus[edge.source] += edge.numbers.rate
            surplus[edge.target] -= edge.numbers.rate
    found: list[tuple[Node, Node, Edge, bool]] = []
    done: set[Node] = set()
    # Begin with those nobody calls, then with those that call most: the picture flows from them.
    for root in sorted(graph.nodes, key=lambda node: (node in called, -surplus[node], node)):
        _walk(root, following, done, found)
    return found


def _walk(
    root: Node,
    following: Mapping[Node, list[Edge]],
    done: set[Node],
    found: list[tuple[Node, Node, Edge, bool]],
) -> None:
    """Depth first without recursion: chains of services may be long."""
    if root in done:
        return
    open_ = {root}
    stack = [(root, iter(following.get(root, ())))]
    while stack:
        node, edges = stack[-1]
        edge = next(edges, None)
        if edge is None:
            stack.pop()
            open_.discard(node)
            done.add(node)
        elif edge.target in open_:
            found.append((edge.target, edge.source, edge, True))
        else:
            found.append((edge.source, edge.target, edge, False))
            if edge.target not in done:
                open_.add(edge.target)
                stack.append((edge.target, iter(following.get(edge.target, ()))))


def _depths(nodes: Sequence[Node], pairs: Sequence[tuple[Node, Node]]) -> dict[Node, int]:
    """Longest way from a start, in layers."""
    after: defaultdict[Node, list[Node]] = defaultdict(list)
    before = dict.fromkeys(nodes, 0)
    for start, end in pairs:
        after[start].append(end)
        before[end] += 1
    depth = dict.fromkeys(nodes, 0)
    free = [node for node in nodes if not before[node]]
    while free:
        node = free.pop()
        for end in after[node]:
            depth[end] = max(depth[end], depth[node] + 1)
            before[end] -= 1
            if not before[end]:
                free.append(end)
    return depth


def _order(layout: _Layout) -> None:
    """Sort each layer by the mean place of its neighbours, forth and back."""
    left: defaultdict[Node | int, list[Node | int]] = defaultdict(list)
    right: defaultdict[Node | int, list[Node | int]] = defaultdict(list)
    for hop in layout.hops:
        left[hop.end].append(hop.start)
        right[hop.start].append(hop.end)
    for sweep in range(_SWEEPS):
        neighbours = right if sweep % 2 else left
        order = range(len(layout.layers) - 2, -1, -1) if sweep % 2 else range(1, len(layout.layers))
        for index in order:
            beside = layout.layers[index + 1 if sweep % 2 else index - 1]
            place = {one: number for number, one in enumerate(beside)}
            layer = layout.layers[index]
            own = {one: float(number) for number, one in enumerate(layer)}
            mean = {one: _mean([place[other] for other in neighbours[one]], own[one]) for one in layer}
            layer.sort(key=mean.__getitem__)


def _mean(values: Sequence[int], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


# --- for the terminal --------------------------------------------------------------------------------

_LEFT, _RIGHT, _UP, _DOWN = 1, 2, 4, 8
_LINES: Final = {
    1: "─", 2: "─", 3: "─", 4: "│", 8: "│", 12: "│", 5: "┘", 6: "└", 9: "┐", 10: "┌",
    13: "┤", 14: "├", 7: "┴", 11: "┬", 15: "┼",
}  # fmt: skip
_BOX_ROWS: Final = 4
_STUB: Final = 2
"""Columns of a line before the first lane and after the last, arrowhead included."""


class _Canvas:
    def __init__(self) -> None:
        self._lines: defaultdict[tuple[int, int], int] = defaultdict(int)
        self._texts: dict[tuple[int, int], str] = {}

    def across(self, row: int, start: int, end: int) -> None:
        """A horizontal line over these columns, both included."""
        for column in range(start, end + 1):
            bits = (_LEFT if column > start else 0) | (_RIGHT if column < end else 0)
            self._lines[row, column] |= bits

    def down(self, column: int, start: int, end: int) -> None:
        """A vertical line over these rows, both included."""
        low, high = min(start, end), max(start, end)
        for row in range(low, high + 1):
            self._lines[row, column] |= (_UP if row > low else 0) | (_DOWN if row < high else 0)

    def write(self, row: int, column: int, text: str) -> None:
        for offset, char in enumerate(text):
            self._texts[row, column + offset] = char

    def render(self) -> str:
        cells = {place: _LINES[bits] for place, bits in self._lines.items() if bits} | self._texts
        rows: defaultdict[int, dict[int, str]] = defaultdict(dict)
        for (row, column), char in cells.items():
            rows[row][column] = char
        lines = []
        for row in range(max(rows, default=-1) + 1):
            found = rows.get(row, {})
            lines.append("".join(found.get(column, " ") for column in range(max(found, default=-1) + 1)))
        return "\n".join(lines) + "\n"


def as_text(graph: Graph, everywhere: bool) -> str:
    """Boxes and lines from left to right, and a table of the edges with their numbers."""
    layout, canvas = _layout(graph), _Canvas()
    received: defaultdict[Node, list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        received[edge.target].append(edge)
    rows = _rows(layout)
    column = 0
    for index, layer in enumerate(layout.layers):
        texts = {
            node: _box_texts(node, received[node], everywhere) for node in layer if isinstance(node, Node)
        }
        width = max((len(text) for lines in texts.values() for text in lines), default=0) + 4
        for one in layer:
            if isinstance(one, Node):
                _draw_box(canvas, rows[one], column, width, texts[one])
            else:
                canvas.across(rows[one], column - 1, column + width)
        hops = [hop for hop in layout.hops if hop.start in set(layer)]
        starts = list(dict.fromkeys(hop.start for hop in sorted(hops, key=lambda hop: rows[hop.start])))
        after = column + width
        next_column = after + _STUB + 2 * len(starts) + _STUB
        for hop in hops:
            _draw_hop(canvas, hop, rows, after, after + _STUB + 2 * starts.index(hop.start), next_column)
        if index < len(layout.layers) - 1:
            column = next_column
    table = top.aligned(
        ("FROM", "TO", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P90", "LATENCY_P99"),
        [
            (edge.source.label(everywhere), edge.target.label(everywhere), *top.cells(edge.numbers))
            for edge in graph.edges
        ],
    )
    return f"{canvas.render()}\n{table}" if graph.edges else ""


def _rows(layout: _Layout) -> dict[Node | int, int]:
    """Row of the line that leads into each place; layers are centred beside the tallest."""
    heights = [sum(_height(one) + 1 for one in layer) for layer in layout.layers]
    tallest = max(heights, default=0)
    rows: dict[Node | int, int] = {}
    for layer, height in zip(layout.layers, heights, strict=True):
        row = (tallest - height) // 2
        for one in layer:
            rows[one] = row + 1 if isinstance(one, Node) else row
            row += _height(one) + 1
    return rows


def _height(one: Node | int) -> int:
    return _BOX_ROWS if isinstance(one, Node) else 1


def _box_texts(node: Node, received: Sequence[Edge], everywhere: bool) -> tuple[str, str]:
    itself = " ↺" if any(edge.source == node for edge in received) else ""
    if not received:
        return node.label(everywhere) + itself, ""
    rate = sum(edge.numbers.rate for edge in received)
    success = sum((edge.numbers.success for edge in received), Fraction(0))
    whole = sum((edge.numbers.total for edge in received), Fraction(0))
    return node.label(everywhere) + itself, f"{rate:.1f}rps {float(100 * success / whole):.1f}%"


def _draw_box(canvas: _Canvas, row: int, column: int, width: int, texts: Sequence[str]) -> None:
    top_row = row - 1
    canvas.write(top_row, column, f"┌{'─' * (width - 2)}┐")
    for offset, text in enumerate(texts, start=1):
        canvas.write(top_row + offset, column, f"│ {text.ljust(width - 4)} │")
    canvas.write(top_row + _BOX_ROWS - 1, column, f"└{'─' * (width - 2)}┘")


def _draw_hop(
    canvas: _Canvas, hop: _Hop, rows: Mapping[Node | int, int], after: int, lane: int, before: int
) -> None:
    start, end = rows[hop.start], rows[hop.end]
    canvas.across(start, after, lane)
    canvas.down(lane, start, end)
    canvas.across(end, lane, before - 1)
    if hop.last and not hop.turned:
        canvas.write(end, before - 1, "▶")
    if hop.first and hop.turned:
        canvas.write(start, after, "◀")


# --- as a picture ------------------------------------------------------------------------------------

_STYLE: Final = """
svg { color-scheme: light dark; font: 13px ui-sans-serif, system-ui, sans-serif; }
.back { fill: #fbfcfd; } .box { fill: #fff; stroke: #5b6b7b; stroke-width: 1.5; }
.name { fill: #18222c; font-weight: 600; } .sub, .label { fill: #52616f; font-size: 11px; }
.halo { stroke: #fbfcfd; stroke-width: 4; paint-order: stroke; }
.line { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  .back { fill: #11161b; } .box { fill: #1b232b; stroke: #8494a4; } .name { fill: #e8eef4; }
  .sub, .label { fill: #a9b7c4; } .halo { stroke: #11161b; }
}
"""
_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 160, 48, 190, 34, 24


def as_svg(graph: Graph, everywhere: bool) -> str:
    """A picture: boxes from left to right, edges coloured by their share of success."""
    layout = _layout(graph)
    places = _places(layout)
    columns = len(layout.layers)
    width = 2 * _MARGIN + columns * _BOX_WIDTH + max(columns - 1, 0) * _GAP_X
    height = max((y for _, y in places.values()), default=0) + _BOX_HEIGHT // 2 + _MARGIN
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="Traffic between workloads">',
        f"<style>{_STYLE}</style>",
        *(
            f'<marker id="{health}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
            f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8Z" fill="{colour}"/></marker>'
            for health, colour in _COLOURS.items()
        ),
        f'<rect class="back" width="{width}" height="{height}"/>',
    ]
    parts += [_svg_line(hop, places) for hop in layout.hops]
    parts += [_svg_label(hop, places) for hop in layout.hops if hop.first]
    parts += [_svg_box(node, places[node], graph, everywhere) for node in graph.nodes]
    return "\n".join([*parts, "</svg>", ""])


def _places(layout: _Layout) -> dict[Node | int, tuple[int, int]]:
    """Left edge and middle of each place."""
    step = _BOX_HEIGHT + _GAP_Y
    tallest = max((len(layer) for layer in layout.layers), default=0) * step
    places: dict[Node | int, tuple[int, int]] = {}
    for index, layer in enumerate(layout.layers):
        y = _MARGIN + (tallest - len(layer) * step) // 2 + _BOX_HEIGHT // 2
        for one in layer:
            places[one] = (_MARGIN + index * (_BOX_WIDTH + _GAP_X), y)
            y += step
    return places


def _svg_line(hop: _Hop, places: Mapping[Node | int, tuple[int, int]]) -> str:
    (x, y), (end_x, end_y) = places[hop.start], places[hop.end]
    x += _BOX_WIDTH
    bend = (end_x - x) // 2
    through = "" if isinstance(hop.end, Node) else f"H{end_x + _BOX_WIDTH}"
    health = _health(hop.edge)
    arrow = f'marker-end="url(#{health})"' if hop.last and not hop.turned else ""
    if hop.first and hop.turned:
        arrow = f'marker-start="url(#{health})"'
    path = f"M{x} {y}C{x + bend} {y} {end_x - bend} {end_y} {end_x} {end_y}{through}"
    return f'<path class="line" stroke="{_COLOURS[health]}" {arrow} d="{path}"/>'


def _svg_label(hop: _Hop, places: Mapping[Node | int, tuple[int, int]]) -> str:
    (x, y), (end_x, end_y) = places[hop.start], places[hop.end]
    middle_x, middle_y = (x + _BOX_WIDTH + end_x) // 2, (y + end_y) // 2 + (12 if hop.turned else -5)
    return (
        f'<text class="label halo" x="{middle_x}" y="{middle_y}" text-anchor="middle">'
        f"{escape(hop.edge.label)}</text>"
    )


def _svg_box(node: Node, place: tuple[int, int], graph: Graph, everywhere: bool) -> str:
    x, y = place
    received = [edge for edge in graph.edges if edge.target == node]
    name, below = _box_texts(node, received, everywhere)
    if not below:
        below = node.kind or "not in the mesh"
    middle = x + _BOX_WIDTH // 2
    shown = name if len(name) <= 22 else f"{name[:21]}…"
    return (
        f'<g><title>{escape(f"{node.kind} {name}".strip())}</title><rect class="box" x="{x}" '
        f'y="{y - _BOX_HEIGHT // 2}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{middle}" y="{y - 3}" text-anchor="middle">{escape(shown)}</text>'
        f'<text class="sub" x="{middle}" y="{y + 14}" text-anchor="middle">{escape(below)}</text></g>'
    )
