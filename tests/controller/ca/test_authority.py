"""The CA's Secret: created, given, rotated step by step without a gap in trust."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from controller.ca.authority import GENERATED, Authority
from controller.ca.issue import KeyPair, MaterialError, key_pem, new_root, pem
from controller.ca.policy import ROOT_LIFE, ROOT_RENEW_AT, Names
from controller.ca.serving import ServingCertificate
from controller.kube import KubeError
from controller.settings import CA_SECRET
from controller.tasks import Tasks
from tests.controller.kubeapi import StoredObjects
from tests.controller.pki import now

SECRET = f"/api/v1/namespaces/smi-mesh-system/secrets/{CA_SECRET}"
NAMES = Names("spiffe://td/ns/shop/sa/web", ("web-0.shop.pod.smi-mesh.internal",))
LEAF = timedelta(hours=24)


class Calendar:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def trusts(bundle: str, pair: KeyPair, at: datetime) -> bool:
    chain = x509.load_pem_x509_certificates(pair.leaf.chain_pem.encode())
    store = Store(x509.load_pem_x509_certificates(bundle.encode()))
    try:
        PolicyBuilder().store(store).time(at).build_client_verifier().verify(chain[0], chain[1:])
    except VerificationError:
        return False
    return True


async def test_the_secret_is_created_once_and_used_from_then_on() -> None:
    api = StoredObjects()
    first, second = (Authority(api, "td", LEAF, now) for _ in range(2))
    await first.open()
    await second.open()
    assert first.bundle == second.bundle
    assert [verb for verb, _, _ in api.writes] == ["create"]
    assert api.objects[SECRET]["type"] == "kubernetes.io/tls"


async def test_two_controllers_that_start_together_agree() -> None:
    api = StoredObjects()
    found_nothing = api.get

    async def get_before_the_other_created(path: str, params: object = None) -> dict[str, object]:
        if not api.writes:
            raise KubeError(404, "NotFound", path)
        return await found_nothing(path)

    api.get = get_before_the_other_created  # type: ignore[method-assign] # one answer that is late
    both = [Authority(api, "td", LEAF, now) for _ in range(2)]
    await asyncio.gather(*(one.open() for one in both))
    assert both[0].bundle == both[1].bundle


async def test_a_generated_root_is_rotated_without_a_gap() -> None:
    """At every step all leaves that may be alive are trusted by all bundles that may be in use."""
    api, clock = StoredObjects(), Calendar()
    authority = Authority(api, "td", LEAF, clock)
    await authority.open()
    bundles, leaves = [authority.bundle], [authority.pair(NAMES)]
    roots = {authority.bundle}
    clock.now += ROOT_LIFE * ROOT_RENEW_AT
    for _ in range(10):
        await authority.refresh()
        bundles, leaves = [*bundles[-1:], authority.bundle], [*leaves[-1:], authority.pair(NAMES)]
        if leaves[0].leaf.not_after > clock.now:
            assert all(trusts(bundle, leaf, clock.now) for bundle in bundles for leaf in leaves)
        roots.add(authority.bundle)
        clock.now += LEAF
    assert len(roots) == 4, "old; old and new; new and old; new"
    assert authority.bundle.count("BEGIN") == 1
    assert set(api.objects[SECRET]["data"]) == {"tls.crt", "tls.key"}


async def test_a_given_root_is_used_and_never_changed() -> None:
    api, clock = StoredObjects(), Calendar()
    authority = Authority(api, "td", LEAF, clock)
    await authority.open()
    del api.objects[SECRET]["metadata"]["annotations"][GENERATED]
    clock.now += ROOT_LIFE * 0.95
    assert not await authority.refresh()
    assert len(api.writes) == 1


async def test_an_unusable_secret_says_what_is_wrong_and_the_last_good_one_stays() -> None:
    api = StoredObjects()
    authority = Authority(api, "td", LEAF, now)
    await authority.open()
    bundle = authority.bundle
    api.objects[SECRET]["data"]["tls.key"] = "AAAA"
    with pytest.raises(MaterialError, match=r"smi-mesh-ca"):
        await authority.refresh()
    assert authority.bundle == bundle
    assert trusts(bundle, authority.pair(NAMES), now())


async def test_the_listeners_certificate_is_renewed_in_place() -> None:
    authority = Authority(StoredObjects(), "td", timedelta(seconds=2), now)
    await authority.open()
    serving = ServingCertificate(authority, NAMES, now, lambda: 0.0)
    context = serving.context(clients=True)
    assert context.verify_mode is ssl.CERT_REQUIRED
    running = Tasks()
    running.start("renewal", serving.run())
    first = serving.pair
    async with asyncio.timeout(5):
        while serving.pair is first:  # noqa: ASYNC110 - renewal tells nobody
            await asyncio.sleep(0.02)
    await running.cancel()
    assert serving.pair.leaf.not_after > first.leaf.not_after


async def test_a_given_intermediate_signs_and_its_root_is_trusted() -> None:
    """What cert-manager or a company's CA hands out: the root's key stays at home."""
    root = new_root(now(), timedelta(days=2), "td")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mesh intermediate")])
    intermediate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(root.certificate.subject)
        .serial_number(7)
        .public_key(key.public_key())
        .not_valid_before(now() - timedelta(hours=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            root.certificate.extensions.get_extension_for_class(x509.KeyUsage).value, critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), critical=False
        )
        .sign(root.key, hashes.SHA256())
    )
    data = {"tls.crt": pem((intermediate,)), "tls.key": key_pem(key), "ca.crt": pem((root.certificate,))}
    api = StoredObjects()
    api.put(
        SECRET,
        {
            "metadata": {"name": CA_SECRET},
            "data": {entry: base64.b64encode(text.encode()).decode() for entry, text in data.items()},
        },
    )
    authority = Authority(api, "td", LEAF, now)
    await authority.open()
    pair = authority.pair(NAMES)
    assert pair.leaf.chain_pem.count("BEGIN") == 2
    assert authority.bundle == data["ca.crt"]
    assert trusts(authority.bundle, pair, now())
    del api.objects[SECRET]["data"]["ca.crt"]
    with pytest.raises(MaterialError, match=r"no self-signed root to trust; put it into ca\.crt"):
        await authority.refresh()
