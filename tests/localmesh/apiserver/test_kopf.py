"""A kopf operator, as the mesh's controller is one, against the server: indexes, events, handlers,
finalizers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from localmesh.apiserver.server import ApiServer

from .conftest import Client
from .test_weight_changes import DEFINITION, SPLITS, split

pytestmark = pytest.mark.e2e

OPERATOR = """
import kopf

@kopf.on.startup()
def configure(settings, **_):
    settings.posting.enabled = True
    settings.persistence.finalizer = "test.smi-mesh.io/finalizer"

@kopf.index("trafficsplits.split.smi-spec.io")
def splits(name, spec, **_):
    return {name: spec["service"]}

@kopf.on.event("trafficsplits.split.smi-spec.io")
def seen(event, name, spec, splits, **_):
    print("event", event["type"], name, len(splits), flush=True)

@kopf.on.create("trafficsplits.split.smi-spec.io")
def created(name, patch, body, **_):
    kopf.info(body, reason="Seen", message="the operator saw it")
    print("created", name, flush=True)

@kopf.on.update("trafficsplits.split.smi-spec.io", field="spec")
def updated(name, old, new, **_):
    print("updated", name, new["backends"][1]["weight"], flush=True)

@kopf.on.delete("trafficsplits.split.smi-spec.io")
def deleted(name, **_):
    print("deleted", name, flush=True)
"""


async def until(stream: asyncio.StreamReader, wanted: str) -> list[str]:
    """Lines up to the wanted one."""
    lines: list[str] = []
    async with asyncio.timeout(30):
        while True:
            line = (await stream.readline()).decode()
            assert line, f"the operator ended before {wanted!r}: {lines}"
            lines.append(line.strip())
            if lines[-1] == wanted:
                return lines


async def test_an_operator_sees_and_handles(server: ApiServer, call: Client, tmp_path: Path) -> None:
    await call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)
    path = tmp_path / "operator.py"
    path.write_text(OPERATOR)
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig_path)}
    errors = (tmp_path / "errors").open("w")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kopf", "run", "--standalone", "-A", str(path),
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=errors,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert (await call("POST", SPLITS, split(10))).status == 201
        await until(process.stdout, "created api")
        made = (await call("GET", f"{SPLITS}/api")).body
        assert made["metadata"]["finalizers"] == ["test.smi-mesh.io/finalizer"]
        await call(
            "PATCH",
            f"{SPLITS}/api",
            [{"op": "replace", "path": "/spec/backends/1/weight", "value": 42}],
            content_type="application/json-patch+json",
        )
        await until(process.stdout, "updated api 42")
        assert (await call("DELETE", f"{SPLITS}/api")).body["metadata"]["deletionTimestamp"]
        await until(process.stdout, "deleted api")
        async with asyncio.timeout(20):
            while (await call("GET", f"{SPLITS}/api")).status != 404:  # noqa: ASYNC110 - remote
                await asyncio.sleep(0.02)
            listed = "/api/v1/namespaces/default/events"
            while not (events := (await call("GET", listed)).body["items"]):  # noqa: ASYNC110 - remote
                await asyncio.sleep(0.02)
        assert [event["reason"] for event in events if event["reason"] == "Seen"] == ["Seen"]
    except BaseException:
        print((tmp_path / "errors").read_text()[-3000:])  # noqa: T201 - shown when the test fails
        raise
    finally:
        process.terminate()
        await process.communicate()
        errors.close()
    assert process.returncode == 0
