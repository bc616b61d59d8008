"""The composition root of the API without its network face: store, kinds, admission, verbs, in-process client."""

from __future__ import annotations

from dataclasses import dataclass

from localmesh.apiserver.admission import Webhooks
from localmesh.apiserver.api import Api
from localmesh.apiserver.builtin import BUILTIN
from localmesh.apiserver.registry import Registry
from localmesh.apiserver.rest import Rest
from localmesh.apiserver.store import Store
from localmesh.apiserver.strategy import KindStrategy

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that exist once per cluster."""

    rest: Rest
    api: Api

    async def bootstrap(self) -> None:
        """Create what every cluster has from the start; keeps what is there already."""
        for name in SYSTEM_NAMESPACES:
            if self.api.peek("namespaces", None, name) is None:
                await self.api.create("namespaces", None, {"metadata": {"name": name}})


def assemble(store: Store) -> Core:
    rest = Rest(store, Registry(BUILTIN), KindStrategy(), Webhooks())
    return Core(rest, Api(rest))
