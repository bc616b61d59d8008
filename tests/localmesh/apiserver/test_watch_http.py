"""The watch and list contract of kubernetes-api.md Appendix B, over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from localmesh.apiserver.server import ApiServer

from .conftest import Client

N = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
LIST_EVENTS = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


class Stream:
    """Frames of one watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self) -> tuple[str, Any] | None:
        """The next frame, None at the end."""
        line = await asyncio.wait_for(self._response.content.readline(), 10)
        if not line:
            return None
        frame = json.loads(line)
        return frame["type"], frame["object"]

    async def take(self, count: int) -> list[tuple[str, str]]:
        """Types and names of the next frames."""
        found = []
        for _ in range(count):
            frame = await self.next()
            assert frame is not None
            found.append((frame[0], frame[1]["metadata"].get("name", "")))
        return found

    async def rest(self) -> list[tuple[str, Any]]:
        found = []
        while (frame := await self.next()) is not None:
            found.append(frame)
        return found


@asynccontextmanager
async def watching(call: Client, path: str, **headers: str) -> AsyncIterator[Stream]:
    async with call.session.get(call.url + path, headers={**call.headers, **headers}) as response:
        assert response.status == 200, await response.text()
        yield Stream(response)


async def make(call: Client, name: str, labels: dict[str, str] | None = None) -> Any:
    answer = await call("POST", N, {"metadata": {"name": name, "labels": labels or {}}})
    assert answer.status == 201, answer.text
    return answer.body


async def relabel(call: Client, name: str, labels: dict[str, str | None]) -> None:
    patch = {"metadata": {"labels": labels}}
    answer = await call("PATCH", f"{N}/{name}", patch, content_type="application/merge-patch+json")
    assert answer.status == 200, answer.text


async def test_without_a_revision_the_present_comes_first(call: Client) -> None:
    await make(call, "a")
    async with watching(call, f"{N}?watch=1") as stream:
        assert await stream.take(1) == [("ADDED", "a")]
        await make(call, "b")
        await call("DELETE", f"{N}/b")
        assert await stream.take(2) == [("ADDED", "b"), ("DELETED", "b")]


async def test_from_a_revision_only_newer_changes_come(call: Client) -> None:
    first = await make(call, "a")
    await make(call, "b")
    revision = first["metadata"]["resourceVersion"]
    async with watching(call, f"{N}?watch=true&resourceVersion={revision}") as stream:
        assert await stream.take(1) == [("ADDED", "b")]


async def test_selectors_turn_leaving_into_deleted(call: Client) -> None:
    await make(call, "a")
    async with watching(call, f"{N}?watch=1&labelSelector=k%3Dv") as stream:
        await relabel(call, "a", {"k": "v"})
        await relabel(call, "a", {"more": "x"})
        await relabel(call, "a", {"k": None})
        await relabel(call, "a", {"k": "v"})
        wanted = [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a")]
        assert await stream.take(4) == wanted


async def test_field_selector_by_name(call: Client) -> None:
    await make(call, "a")
    async with watching(call, f"{N}?watch=1&fieldSelector=metadata.name%3Db") as stream:
        await make(call, "b")
        assert await stream.take(1) == [("ADDED", "b")]


async def test_watch_list_ends_its_first_part_with_a_bookmark(call: Client) -> None:
    await make(call, "a")
    async with watching(call, f"{N}?watch=1{LIST_EVENTS}") as stream:
        assert await stream.take(1) == [("ADDED", "a")]
        kind, obj = await stream.next() or ("", {})
        assert kind == "BOOKMARK"
        assert obj["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        await make(call, "b")
        assert await stream.take(1) == [("ADDED", "b")]


async def test_what_makes_no_sense_is_refused(call: Client) -> None:
    for query in ("sendInitialEvents=true", "resourceVersionMatch=NotOlderThan"):
        answer = await call("GET", f"{N}?watch=1&{query}")
        assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert (await call("GET", f"{N}?watch=1&resourceVersion=abc")).status == 400
    assert (await call("GET", f"{N}?continue=nonsense")).status == 400
    assert (await call("GET", f"{N}?continue=nonsense&resourceVersion=7")).status == 400
    for query, why in (
        ("resourceVersionMatch=Exact&resourceVersion=0", 'resourceVersionMatch "exact" is forbidden'),
        ("resourceVersionMatch=Exact&resourceVersion=1&continue=x", "forbidden when continue is provided"),
        ("resourceVersionMatch=Newest&resourceVersion=1", 'Unsupported value: "Newest"'),
        ("resourceVersionMatch=NotOlderThan&resourceVersion=1&sendInitialEvents=true", "forbidden for list"),
    ):
        answer = await call("GET", f"{N}?{query}")
        assert (answer.status, why in answer.body["message"]) == (422, True), answer.text


async def test_a_list_of_one_revision_shows_it(call: Client) -> None:
    await make(call, "a")
    then = (await call("GET", N)).body["metadata"]["resourceVersion"]
    await make(call, "b")
    for query, names in (
        (f"resourceVersion={then}&resourceVersionMatch=Exact", ["a"]),
        (f"resourceVersion={then}&limit=5", ["a"]),
        (f"resourceVersion={then}&resourceVersionMatch=NotOlderThan", ["a", "b"]),
        (f"resourceVersion={then}", ["a", "b"]),
        ("resourceVersion=0", ["a", "b"]),
    ):
        answer = await call("GET", f"{N}?{query}")
        found = [item["metadata"]["name"] for item in answer.body["items"]]
        assert [name for name in found if name != "kube-root-ca.crt"] == names, query


async def test_a_timeout_ends_cleanly_after_a_last_bookmark(call: Client) -> None:
    async with watching(call, f"{N}?watch=1&allowWatchBookmarks=true&timeoutSeconds=3") as stream:
        frames = await stream.rest()
    assert [kind for kind, _ in frames] == ["BOOKMARK"]


async def test_tables_are_watched_row_by_row(call: Client) -> None:
    await make(call, "a")
    async with watching(call, f"{N}?watch=1", Accept=TABLE) as stream:
        _, first = await stream.next() or ("", {})
        await make(call, "b")
        _, second = await stream.next() or ("", {})
    assert first["kind"] == "Table"
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["columnDefinitions"] == []
    assert second["rows"][0]["cells"][0] == "b"


async def test_too_old_is_told_in_the_stream(server: ApiServer, call: Client) -> None:
    """Of a page too, with a token that goes on in the present."""
    first = await make(call, "a")
    await make(call, "b")
    page = (await call("GET", f"{N}?limit=1")).body
    old = first["metadata"]["resourceVersion"]
    store = server.core.rest.store
    store.window, store.slack = 50, 10  # a thousand changes more would show the same
    for value in range(store.window + store.slack):
        await server.api.patch("configmaps", "default", "a", {"data": {"k": str(value)}})
    async with watching(call, f"{N}?watch=1&resourceVersion={old}") as stream:
        frames = await stream.rest()
    assert [(kind, obj["code"], obj["reason"]) for kind, obj in frames] == [("ERROR", 410, "Expired")]
    await make(call, "c")
    gone = await call("GET", f"{N}?limit=1&continue={page['metadata']['continue']}")
    assert (gone.status, gone.body["reason"]) == (410, "Expired")
    rest = await call("GET", f"{N}?continue={gone.body['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest.body["items"]] == ["b", "c"]
    exact = await call("GET", f"{N}?resourceVersion={old}&resourceVersionMatch=Exact")
    assert (exact.status, exact.body["reason"]) == (410, "Expired")


async def test_pages_show_one_moment(call: Client) -> None:
    for name in ("a", "b", "c", "d"):
        await make(call, name)
    first = (await call("GET", f"{N}?limit=2")).body
    assert first["metadata"]["remainingItemCount"] == 2
    await make(call, "bb")
    await call("DELETE", f"{N}/d")
    token = first["metadata"]["continue"]
    second = (await call("GET", f"{N}?limit=2&continue={token}")).body
    names = [item["metadata"]["name"] for item in first["items"] + second["items"]]
    assert names == ["a", "b", "c", "d"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]


async def test_watches_end_when_their_definition_goes(server: ApiServer, call: Client) -> None:
    definition = {
        "metadata": {"name": "things.demo.io"},
        "spec": {
            "group": "demo.io",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    things = "/apis/demo.io/v1/namespaces/default/things"
    await call("POST", crds, definition)
    await call("POST", things, {"apiVersion": "demo.io/v1", "kind": "Thing", "metadata": {"name": "t"}})
    async with watching(call, f"{things}?watch=1") as stream:
        assert await stream.take(1) == [("ADDED", "t")]
        pending = (await call("DELETE", f"{crds}/things.demo.io")).body
        assert pending["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
        assert await stream.take(1) == [("DELETED", "t")]
        assert await stream.rest() == []
    assert (await call("GET", things)).text == "404 page not found\n"


async def test_watchers_of_a_stopped_server_are_let_go(server: ApiServer, call: Client) -> None:
    async with watching(call, f"{N}?watch=1&resourceVersion=1") as _:
        async with asyncio.timeout(5):
            await server.stop()
