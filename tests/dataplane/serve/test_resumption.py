"""Resumed handshakes: they happen, they prove the same as a full one, and they end when they must."""

from __future__ import annotations

import gc
import logging
import ssl
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.serve.handshakes import (
    MAX_FULL,
    Expired,
    Handshakes,
    Issued,
    Place,
    Sessions,
    unix_seconds,
)
from dataplane.telemetry import Telemetry
from tests.dataplane.control.authority import Authority
from tests.dataplane.serve.http import Echo, Message, get, read_message
from tests.dataplane.serve.mesh import API, QUICK, Contexts, Mesh, Pod, spiffe, two_hops
from tests.dataplane.serve.test_tls import Pair
from tests.dataplane.waiting import until

HOUR = 3600.0
EACH_ANEW = replace(QUICK, pool_size=0)
"""No connection is kept, so that every request needs one."""


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def web(authority: Authority) -> Contexts:
    return Contexts(authority, "web", "web-1")


@pytest.fixture
def api(authority: Authority) -> Contexts:
    return Contexts(authority, "api", "api-1")


def shake(client: Contexts, server: Contexts, session: ssl.SSLSession | None = None) -> Pair:
    """A connection that is ready, after the server's first word, with which its ticket comes."""
    pair = Pair(client.client_tcp_context, server.server_context, session)
    pair.pump()
    pair.server.write(b"hello")
    pair.pump()
    assert pair.failures == []
    return pair


def outcomes(pod: Pod, side: str) -> dict[str, int]:
    counted = pod.telemetry._counters["smi_mesh_tls_handshakes_total"].values
    return {outcome: number for (where, outcome), number in counted.items() if where == side}


async def ask(net: Mesh, pod: Pod) -> Message:
    client = await net.client(pod.outbound)
    client.send(get(API))
    return await read_message(client.reader)


# --- two layers in memory --------------------------------------------------------------------------


async def test_a_session_is_resumed_and_names_the_same_peers(web: Contexts, api: Contexts) -> None:
    first = shake(web, api)
    assert not first.client.resumed
    again = shake(web, api, first.client.session)
    assert again.client.resumed
    assert again.server.resumed
    assert again.server.sni == "p80.smi-mesh.internal"
    for before, after in ((first.client, again.client), (first.server, again.server)):
        assert after.certificate == before.certificate
        assert after.certificate_der == before.certificate_der != b""


async def test_nothing_can_be_sent_before_the_handshake(web: Contexts, api: Contexts) -> None:
    """No early data: a ticket does not allow any (RFC 8446 §4.2.10), so none could be replayed."""
    session = shake(web, api).client.session
    assert session is not None
    pair = Pair(web.client_tcp_context, api.server_context, session)
    pair.client.write(b"early")
    pair.pump()
    assert pair.apps[1].got == b""


@pytest.mark.parametrize("rotated", ["client", "server"])
async def test_rotation_ends_sessions(web: Contexts, api: Contexts, rotated: str) -> None:
    pair = shake(web, api)
    session = pair.client.session
    place = Place(web.client_tcp_context, "10.0.0.1", "p80")
    kept = Sessions()
    kept.keep(place, pair.client)
    (web if rotated == "client" else api).rotate()
    if rotated == "client":
        assert kept.of(replace(place, context=web.client_tcp_context)) is None
        with pytest.raises(ValueError, match="different SSLContext"):
            shake(web, api, session)
        kept.sweep([web.client_tcp_context])
        assert len(kept) == 0
    else:
        again = shake(web, api, session)
        assert not again.client.resumed
        assert not again.server.resumed


async def test_a_session_is_of_no_use_at_another_pod_of_the_same_service(
    authority: Authority, web: Contexts, api: Contexts
) -> None:
    other = Contexts(authority, "api", "api-2")
    again = shake(web, other, shake(web, api).client.session)
    assert not again.client.resumed
    proof = Handshakes("client", Telemetry(), lambda: 0.0).proof(again.client)
    assert proof.peer is not None
    assert proof.peer.pod == "shop/api-2"


async def test_everybody_resumes_as_himself(authority: Authority, web: Contexts, api: Contexts) -> None:
    other = Contexts(authority, "batch", "batch-1")
    served = Handshakes("server", Telemetry(), lambda: 0.0)
    firsts = {"web": shake(web, api), "batch": shake(other, api)}  # open: a cut connection ends its session
    for name, contexts in (("batch", other), ("web", web), ("batch", other)):
        pair = shake(contexts, api, firsts[name].client.session)
        assert pair.server.resumed
        assert served.proof(pair.server).identity == spiffe(name)


async def test_the_dates_of_the_first_certificate_bind_a_resumed_connection(
    web: Contexts, api: Contexts
) -> None:
    first = shake(web, api)
    clock = [0.0]
    telemetry = Telemetry()
    server = Handshakes("server", telemetry, lambda: clock[0])
    client = Handshakes("client", telemetry, lambda: clock[0])
    end = server.proof(first.server).not_after
    assert client.proof(first.client).not_after == pytest.approx(end, abs=5)
    again = shake(web, api, first.client.session)
    clock[0] = end - 1
    assert server.proof(again.server).identity == spiffe("web")
    clock[0] = end + 30
    with pytest.raises(Expired, match=f"{spiffe('web')} ended 30 s ago"):
        server.proof(again.server)
    with pytest.raises(Expired, match=spiffe("api")):
        client.proof(again.client)
    counted = telemetry._counters["smi_mesh_tls_handshakes_total"].values
    assert counted == {
        ("server", "full"): 1,
        ("server", "resumed"): 1,
        ("server", "expired"): 1,
        ("client", "full"): 1,
        ("client", "expired"): 1,
    }


async def test_a_server_begins_anew_when_it_keeps_too_many_sessions(web: Contexts, api: Contexts) -> None:
    issued = Issued(api, limit=2)
    first = api.server_context
    pairs = []
    for _ in range(3):
        issued.check()
        pairs.append(shake(web, api))
    assert first.session_stats()["number"] == 2
    assert api.server_context is not first
    assert not shake(web, api, pairs[0].client.session).server.resumed
    assert shake(web, api, pairs[2].client.session).server.resumed


async def test_no_tickets_are_issued_while_too_many_contexts_are_full(web: Contexts, api: Contexts) -> None:
    issued = Issued(api, limit=1)
    held = []  # one connection of each context
    for _ in range(MAX_FULL + 1):
        pair = shake(web, api)
        assert pair.client.session is not None
        held.append(pair)
        issued.check()
    full = api.server_context
    assert shake(web, api).client.session is None
    held.pop(0)
    gc.collect()
    issued.check()
    assert api.server_context is not full
    assert shake(web, api).client.session is not None


async def test_a_client_keeps_the_newest_of_so_many_places(web: Contexts, api: Contexts) -> None:
    kept = Sessions(limit=2)
    places = [Place(web.client_tcp_context, f"10.0.0.{number}", "p80") for number in range(3)]
    layers = [shake(web, api).client for _ in places]
    for place, layer in zip(places, layers, strict=True):
        kept.keep(place, layer)
    assert [kept.of(place) is not None for place in places] == [False, True, True]
    layers[1].close()
    kept.sweep([web.client_tcp_context])
    assert kept.of(places[1]) is not None, "the session outlives its connection"
    kept.forget(places[1])
    assert [kept.of(place) is not None for place in places] == [False, False, True]


# --- two sidecars ----------------------------------------------------------------------------------


async def test_sidecars_resume_and_the_app_sees_the_same_caller(net: Mesh) -> None:
    net.limits = EACH_ANEW
    web, api = await two_hops(net, Echo("api"))
    for _ in range(4):
        assert (await ask(net, web)).status == 200
    expected = {"full": 1, "resumed": 3}
    assert (outcomes(web, "client"), outcomes(api, "server")) == (expected, expected)
    web.contexts.rotate()
    assert (await ask(net, web)).status == 200
    api.contexts.rotate()
    assert (await ask(net, web)).status == 200
    assert outcomes(web, "client") == {"full": 3, "resumed": 3}


async def test_a_client_whose_certificate_ended_is_refused_although_it_resumes(
    net: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    net.limits = EACH_ANEW
    web, api = await two_hops(net, Echo("api"))
    assert (await ask(net, web)).status == 200
    api.later = 2 * HOUR
    with caplog.at_level(logging.WARNING):
        answer = await ask(net, web)
    assert answer.status in (502, 503), answer.start
    await until(lambda: outcomes(api, "server").get("expired", 0) >= 1)
    assert f"refused a mesh connection: the certificate of {spiffe('web')} ended" in caplog.text
    assert outcomes(web, "client")["resumed"] >= 1
    api.later = 0.0
    assert (await ask(net, web)).status == 200


async def test_a_server_whose_certificate_ended_is_refused_although_it_resumes(net: Mesh) -> None:
    net.limits = EACH_ANEW
    web, _api = await two_hops(net, Echo("api"))
    assert (await ask(net, web)).status == 200
    web.later = 2 * HOUR
    answer = await ask(net, web)
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "peer-expired")
    assert outcomes(web, "client")["expired"] >= 1
    web.later = 0.0
    assert (await ask(net, web)).status == 200
    assert outcomes(web, "client")["full"] == 2, "a refused session is not tried again"


@given(st.datetimes(datetime(1950, 1, 1), datetime(9999, 12, 31)))  # noqa: DTZ001 - made UTC below
def test_times_of_certificates_are_read_as_the_library_reads_them(moment: datetime) -> None:
    written = moment.replace(tzinfo=UTC).strftime("%b %e %H:%M:%S %Y GMT")  # as OpenSSL prints them
    assert unix_seconds(written) == ssl.cert_time_to_seconds(written)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Jan  5 09:34:43 2018",
        "Jan  5 09:34:43 2018 UTC",
        "Jan  5 09:34 2018 GMT",
        "Jän  5 09:34:43 2018 GMT",
        "Feb 30 09:34:43 2018 GMT",
        "Jan  5 09:34:60 2018 GMT",
    ],
)
def test_what_is_no_time_of_a_certificate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="certificate"):
        unix_seconds(text)
