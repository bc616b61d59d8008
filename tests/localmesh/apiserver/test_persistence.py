"""What was answered is still there after the process is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from localmesh.apiserver.assemble import assemble
from localmesh.apiserver.store import Key, Store

WRITER = """
import asyncio, sys
from pathlib import Path
from localmesh.apiserver.assemble import assemble
from localmesh.apiserver.store import Store

async def main():
    core = assemble(Store(Path(sys.argv[1]), window=50, slack=10))
    await core.bootstrap()
    await core.api.create("configmaps", "default", {"metadata": {"name": "counter"}})
    number = 0
    while True:
        number += 1
        obj = await core.api.patch("configmaps", "default", "counter", {"data": {"n": str(number)}})
        await core.api.create("configmaps", "default", {"metadata": {"name": f"item-{number}"}})
        if number > 5:
            await core.api.delete("configmaps", "default", f"item-{number - 5}")
        print(number, obj["metadata"]["resourceVersion"], core.api.revision, flush=True)

asyncio.run(main())
"""


async def test_nothing_answered_is_lost_when_killed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    last: list[int] = []
    async with asyncio.timeout(30):
        while not last or last[0] < 200:
            last = [int(word) for word in (await process.stdout.readline()).split()]
        process.kill()
        rest = (await process.stdout.read()).decode().splitlines()
        await process.wait()
    if rest and len(rest[-1].split()) == 3:
        last = [int(word) for word in rest[-1].split()]
    number, revision, newest = last
    core = assemble(Store(path, window=50, slack=10))
    await core.bootstrap()
    store = core.rest.store
    assert store.revision >= newest
    counter = await core.api.get("configmaps", "default", "counter")
    assert int(counter["data"]["n"]) >= number
    assert int(counter["metadata"]["resourceVersion"]) >= revision
    assert store.get("configmaps", Key("default", f"item-{number}")) is not None
    assert store.get("configmaps", Key("default", "item-1")) is None
    resumed = store.position("configmaps", newest - 20)
    revisions = [change.revision for change in store.changes("configmaps", resumed)]
    assert revisions == sorted(revisions)
    assert revisions[0] > newest - 20
    made = await core.api.create("configmaps", "default", {"metadata": {"name": "after"}})
    assert int(made["metadata"]["resourceVersion"]) > newest
    await core.close()


async def test_the_journal_does_not_grow_with_writes(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    core = assemble(Store(path, window=20, slack=5))
    await core.bootstrap()
    await core.api.create("configmaps", "default", {"metadata": {"name": "a"}})
    for number in range(500):
        await core.api.patch("configmaps", "default", "a", {"data": {"n": str(number)}})
    await core.close()
    import sqlite3

    with sqlite3.connect(path) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM log WHERE resource='configmaps'").fetchone()
    connection.close()
    assert rows <= 27


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    import pytest

    from localmesh.apiserver.journal import JournalError

    path = tmp_path / "state.db"
    path.write_text("this is not a database, and it is long enough to be looked at as one" * 20)
    with pytest.raises(JournalError, match="remove it"):
        Store(path)
