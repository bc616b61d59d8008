"""The node's smaller parts: probes, statuses, identity, addresses, rules, logs, volumes."""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmesh.node.identity import Identity, account_files, identity_of, permitted
from localmesh.node.iptables import render
from localmesh.node.logs import LogWriter, read_log, rotated
from localmesh.node.netns import block_plan, candidate_plans
from localmesh.node.network import AddressPool, NetworkError
from localmesh.node.probes import Verdict
from localmesh.node.services import Backend, ServicePort, ServiceTable, service_table
from localmesh.node.statuses import ContainerState, PodFacts, pod_status
from localmesh.node.volumes import File, write_atomically
from localmesh.streams.contract import LogOptions
from tests.localmesh.cluster_kit import wait_until


def test_verdict_changes_only_at_its_thresholds() -> None:
    verdict = Verdict(success=2, failure=3)
    assert [verdict.feed(ok) for ok in (True, True, True)] == [False, True, False]
    assert [verdict.feed(ok) for ok in (False, False, True, False, False, False)] == [False] * 5 + [True]
    assert verdict.good is False


@given(st.lists(st.booleans()), st.integers(1, 4), st.integers(1, 4))
def test_verdict_needs_that_many_in_a_row(results: list[bool], success: int, failure: int) -> None:
    verdict = Verdict(success, failure)
    for number, ok in enumerate(results):
        before = verdict.good
        if verdict.feed(ok):
            needed = success if ok else failure
            assert results[number + 1 - needed : number + 1] == [ok] * needed
            assert verdict.good is ok
            assert before is not ok


def _state(name: str, **more: object) -> ContainerState:
    state = ContainerState(name, "sh")
    for key, value in more.items():
        setattr(state, key, value)
    return state


RUNNING = {"running": {"startedAt": "t"}}


def test_pod_is_ready_when_all_containers_and_sidecars_are() -> None:
    side = _state("side", always=True, state=RUNNING, ready=True, started=True)
    app = _state("app", state=RUNNING, ready=False)
    facts = PodFacts("Always", initialised=True, pod_ip="10.0.0.1")

    def ready() -> tuple[str, str]:
        status = pod_status(facts, [side], [app], {}, "now")
        found = next(c for c in status["conditions"] if c["type"] == "Ready")
        return status["phase"], found["status"]

    assert ready() == ("Running", "False")
    app.ready = True
    assert ready() == ("Running", "True")
    side.ready = False
    assert ready() == ("Running", "False")


@pytest.mark.parametrize(("codes", "phase"), [((0, 0), "Succeeded"), ((0, 2), "Failed")])
def test_finished_pod_succeeded_only_without_failure(codes: tuple[int, ...], phase: str) -> None:
    main = [_state(str(code), state={"terminated": {"exitCode": code}}) for code in codes]
    side = _state("side", always=True, state={"terminated": {"exitCode": 143}})
    facts = PodFacts("Never", initialised=True, finished=True)
    assert pod_status(facts, [side], main, {}, "now")["phase"] == phase


def test_transition_time_is_kept_while_the_condition_stays() -> None:
    app = _state("app", state=RUNNING, ready=True)
    facts = PodFacts("Always", initialised=True)
    first = pod_status(facts, [], [app], {}, "t1")
    second = pod_status(facts, [], [app], first, "t2")
    assert second["conditions"] == first["conditions"]
    app.ready = False
    third = {
        c["type"]: c["lastTransitionTime"] for c in pod_status(facts, [], [app], second, "t3")["conditions"]
    }
    assert (third["Ready"], third["Initialized"]) == ("t3", "t1")


def test_path_permissions_decide_about_run_as_user(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "file"
    inner.parent.mkdir()
    inner.write_text("x")
    inner.chmod(0o644)
    for parent in inner.parents:
        if parent.is_relative_to(tmp_path):
            parent.chmod(0o755)
    outside = [parent for parent in tmp_path.parents if not permitted(parent, 4242, (4242,), 1)]
    assert permitted(inner, 4242, (4242,), 4) is not bool(outside)
    inner.parent.chmod(0o700)
    assert not permitted(inner, 4242, (4242,), 4)
    assert permitted(inner, 0, (0,), 7)


def test_group_is_always_applied_and_the_user_only_if_it_can_work() -> None:
    container = {"securityContext": {"runAsUser": 1337, "runAsGroup": 1337}}
    found = identity_of({"spec": {}}, container, am_root=True)
    assert found.gid == 1337
    assert (found.uid == 1337) is (found.limit == "")
    assert identity_of({"spec": {}}, container, am_root=False).gid is None


def test_pod_context_is_overridden_by_the_container() -> None:
    pod = {"spec": {"securityContext": {"runAsUser": 0, "runAsGroup": 5, "fsGroup": 7}}}
    found = identity_of(pod, {"securityContext": {"runAsGroup": 6}}, am_root=True)
    assert (found.uid, found.gid, found.groups) == (0, 6, (7,))


def test_unknown_user_gets_a_name(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0:root:/root:/bin/sh\n")
    assert account_files(Identity(uid=65532, gid=65532), passwd) == {
        str(passwd): "root:x:0:0:root:/root:/bin/sh\nu65532:x:65532:65532::/:/usr/sbin/nologin\n"
    }
    assert account_files(Identity(uid=0), passwd) == account_files(Identity(), passwd) == {}


def test_addresses_rotate_and_old_ones_are_preferred() -> None:
    pool = AddressPool("10.1.0.0/28", reserved=10)
    assert [pool.take(owner) for owner in "abc"] == ["10.1.0.10", "10.1.0.11", "10.1.0.12"]
    pool.release("a")
    assert pool.take("d") == "10.1.0.13"
    assert pool.take("e", "10.1.0.10") == "10.1.0.10"
    assert pool.take("f", "10.9.9.9") == "10.1.0.14"
    with pytest.raises(NetworkError, match="all 5 pod addresses"):
        pool.take("g")


def test_blocks_of_clusters_do_not_overlap() -> None:
    plans = [block_plan(index) for index in range(256)]
    assert len({plan.pod_cidr for plan in plans}) == len({plan.service_cidr for plan in plans}) == 256
    used = [ipaddress.IPv4Network(plan.service_cidr) for plan in plans[1:]]
    assert candidate_plans("x", used) == [plans[0]]
    assert candidate_plans("x", [], preferred=plans[7].service_cidr)[0] == plans[7]


def _port(*backends: str, node_port: int | None = None, address: str = "10.96.0.9") -> ServicePort:
    found = tuple(Backend(address, 8080) for address in backends)
    return ServicePort("n", "web", "http", "TCP", address, 80, node_port, found)


def test_rules_balance_evenly_and_cover_node_ports() -> None:
    text = render(
        ServiceTable((_port("10.1.0.1", "10.1.0.2", "10.1.0.3", node_port=30080),)),
        "10.1.0.254",
        "10.96.0.0/20",
    )
    chances = [
        line.split("--probability ")[1].split()[0] for line in text.splitlines() if "--probability" in line
    ]
    assert chances == ["0.33333333333", "0.50000000000"] * 2
    assert text.count("-d 10.96.0.9/32 -p tcp -m tcp --dport 80 ") == 3
    assert text.count("-d 10.1.0.254/32 -p tcp -m tcp --dport 30080 ") == 3
    assert text.endswith("COMMIT\n")


def test_headless_services_and_empty_ones_have_no_rules() -> None:
    text = render(ServiceTable((_port("10.1.0.1", address=""), _port())), "10.1.0.254", "10.96.0.0/20")
    assert "DNAT" not in text
    assert "-A FORWARD -d 10.96.0.0/20 -p tcp -j REJECT" in text


def test_service_table_joins_ports_by_name_and_leaves_out_unready() -> None:
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2, "nodePort": 30001}]
    service = {
        "metadata": {"name": "web", "namespace": "n"},
        "spec": {"clusterIP": "10.96.0.9", "ports": ports},
    }
    piece = {
        "metadata": {"name": "web-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "b", "port": 20}],
        "endpoints": [
            {"addresses": ["10.1.0.2"], "conditions": {"ready": True}},
            {"addresses": ["10.1.0.1"], "conditions": {}},
            {"addresses": ["10.1.0.3"], "conditions": {"ready": False}},
        ],
    }
    table = service_table([service], [piece])
    assert [port.backends for port in table.ports] == [(), (Backend("10.1.0.1", 20), Backend("10.1.0.2", 20))]
    assert table.ports[1].node_port == 30001
    assert table.pods == frozenset({"10.1.0.1", "10.1.0.2"})


async def _read(path: Path, **options: object) -> str:
    over = asyncio.Event()
    over.set()
    chunks = read_log(path, over, LogOptions(**options))  # type: ignore[arg-type]  # options of several types
    return b"".join([chunk async for chunk in chunks]).decode()


async def test_log_lines_survive_any_cut_and_rotation(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogWriter(path, max_bytes=400)
    for piece in (b"on", b"e\ntwo\nthr", b"ee\n"):
        log.feed("stdout", piece)
    assert await _read(path) == "one\ntwo\nthree\n"
    for number in range(20):
        log.feed("stdout", b"line %d\n" % number)
    log.feed("stderr", b"no newline at the end")
    log.close()
    assert rotated(path).exists()
    text = await _read(path)
    assert text.endswith("line 19\nno newline at the end\n")
    assert await _read(path, tail=1) == "no newline at the end\n"
    assert path.stat().st_size <= 400


async def test_every_part_of_a_log_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogWriter(path, max_bytes=2000)
    for number in range(60):
        log.feed("stderr" if number % 3 == 0 else "stdout", b"%d\n" % number)
    log.close()
    whole = (await _read(path)).splitlines()
    assert rotated(path).exists()
    assert whole[-1] == "59"
    for count in (0, 1, 5, len(whole) - 1, len(whole), 1000):
        assert (await _read(path, tail=count)).splitlines() == whole[len(whole) - min(count, len(whole)) :]
    stamped = (await _read(path, timestamps=True)).splitlines()
    since = datetime.fromisoformat(stamped[10].split(" ")[0])
    assert (await _read(path, since=since)).splitlines()[-50:] == whole[-50:]
    assert stamped[10].split(" ")[1] in (await _read(path, since=since)).splitlines()[:11]
    assert await _read(path, since=since + timedelta(days=1)) == ""
    assert set(await _lines(path, output="Stderr")) == {n for n in whole if int(n) % 3 == 0}
    assert set(await _lines(path, output="Stdout")) == {n for n in whole if int(n) % 3}
    assert await _read(path, limit_bytes=7) == "\n".join(whole)[:7]


async def _lines(path: Path, **options: object) -> list[str]:
    return (await _read(path, **options)).splitlines()


async def test_a_follower_sees_each_line_once_also_when_the_log_rotates(tmp_path: Path) -> None:
    path, ended = tmp_path / "0.log", asyncio.Event()
    log = LogWriter(path, max_bytes=1500)
    log.feed("stdout", b"first\n")
    seen: list[str] = []

    async def follow() -> None:
        async for chunk in read_log(path, ended, LogOptions(follow=True)):
            seen.extend(chunk.decode().splitlines())

    async with asyncio.TaskGroup() as group:
        group.create_task(follow())
        for number in range(60):
            log.feed("stdout", b"%d\n" % number)
            if number % 20 == 0:
                await wait_until(lambda wanted=str(number): seen[-1:] == [wanted], f"line {number}")
        log.close()
        ended.set()
    assert seen == ["first", *map(str, range(60))]
    assert rotated(path).exists()


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_output_is_kept_byte_for_byte(pieces: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "0.log"
        log = LogWriter(path)
        for piece in pieces:
            log.feed("stdout", piece)
        log.close()
        lines = path.read_bytes().split(b"\n")[:-1]
        whole = b"".join(pieces)
        expected = whole.split(b"\n")
        if expected[-1] == b"":
            expected.pop()
        assert [line.split(b" ", 3)[3] for line in lines] == expected


def test_volume_switches_in_one_step(tmp_path: Path) -> None:
    place = tmp_path / "v"
    write_atomically(place, {"a": File(b"1"), "dir/b": File(b"2", 0o600)})
    assert (place / "a").read_bytes() == b"1"
    assert (place / "dir" / "b").stat().st_mode & 0o777 == 0o600
    write_atomically(place, {"a": File(b"3")})
    assert (place / "a").read_bytes() == b"3"
    assert sorted(entry.name for entry in place.iterdir() if not entry.name.startswith("..")) == ["a"]
    assert len([entry for entry in place.iterdir() if entry.is_dir() and not entry.is_symlink()]) == 1
