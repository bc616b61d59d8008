"""A split made in one version can be read in every other, with the same weights."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect


def _thousandths(quantity: object) -> int:
    """A quantity as it may come back: `750`, `750m` or a number."""
    text = str(quantity)
    return int(text.removesuffix("m")) if text.endswith("m") else 1000 * int(text)


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    for version in ("v1alpha2", "v1alpha3", "v1alpha4"):
        split = await mesh.read("TrafficSplit", "web", version=version)
        expect(
            split["apiVersion"] == f"split.smi-spec.io/{version}",
            f"asked for {version}, got {split['apiVersion']}",
        )
        weights = [(backend["service"], backend["weight"]) for backend in split["spec"]["backends"]]
        expect(weights == [("alpha", 750), ("beta", 250)], f"{version}: weights are {weights}")
    oldest = (await mesh.read("TrafficSplit", "web", version="v1alpha1"))["spec"]["backends"]
    amounts = [_thousandths(backend["weight"]) for backend in oldest]
    expect(amounts[1] and amounts[0] == 3 * amounts[1], f"v1alpha1: the ratio 3 : 1 became {oldest}")


CASE = Case(
    name="versions-read-in-each",
    feature="split-versions",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha1",
            "Specification",
            "The versions say the same in different forms: quantities here, whole numbers later.",
        ),
    ),
    rules=("S1",),
)
