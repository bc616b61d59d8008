"""The composition root of the API without its network face: store, kinds, admission, verbs,
in-process client.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from localmesh.apiserver import bootstrap
from localmesh.apiserver.admission import Webhooks
from localmesh.apiserver.aggregation import Aggregation
from localmesh.apiserver.allocate import ServiceAllocator
from localmesh.apiserver.api import Api
from localmesh.apiserver.builtin import BUILTIN
from localmesh.apiserver.callout import Callout, service_resolver
from localmesh.apiserver.definitions import Definitions
from localmesh.apiserver.expiry import expire_events
from localmesh.apiserver.frontproxy import FrontProxy
from localmesh.apiserver.handlers import Handlers
from localmesh.apiserver.openapi import OpenApi
from localmesh.apiserver.rbac import Authorizer
from localmesh.apiserver.registry import Registry
from localmesh.apiserver.rest import Rest
from localmesh.apiserver.reviews import Reviews
from localmesh.apiserver.serviceproxy import ServiceProxy
from localmesh.apiserver.store import Key, Store
from localmesh.apiserver.strategy import KindStrategy
from localmesh.apiserver.tasks import TaskGroup
from localmesh.apiserver.tokens import TokenAuthority

SERVICE_CIDR = "10.96.0.0/16"
NODE_PORTS = (30000, 32767)


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that exist once per cluster."""

    rest: Rest
    api: Api
    tokens: TokenAuthority
    authorizer: Authorizer
    definitions: Definitions
    callout: Callout
    aggregation: Aggregation
    service_proxy: ServiceProxy
    front_proxy: FrontProxy
    tasks: TaskGroup

    async def bootstrap(self, client_authority: bytes = b"") -> None:
        """Serve the custom resources of earlier runs and create what every cluster has.

        `client_authority` is the CA (PEM) of client certificates, for extension servers to know.
        """
        self.definitions.load()
        self.aggregation.load()
        await bootstrap.create_missing(self.api)
        await bootstrap.publish_front_proxy(self.api, self.front_proxy.config_map(client_authority))
        self.tasks.start("expire events", expire_events(self.rest.store))
        self.tasks.start("aggregation", self.aggregation.run())

    async def publish_endpoint(self, address: str, port: int) -> None:
        await bootstrap.publish_endpoint(self.api, address, port)

    def handlers(self, address: Callable[[], str]) -> Handlers:
        """The HTTP face; `address` tells host:port for discovery."""
        store = self.rest.store
        reviews = Reviews(store, self.authorizer, self.tokens)
        openapi = OpenApi(self.rest.registry, self.aggregation.openapi_documents)
        return Handlers(
            self.rest,
            self.authorizer,
            self.tokens,
            reviews,
            openapi,
            self.aggregation,
            self.service_proxy,
            address,
        )

    async def close(self) -> None:
        await self.tasks.close()
        await self.callout.close()
        await self.aggregation.close()
        await self.service_proxy.close()
        self.rest.store.close()


def assemble(
    store: Store,
    *,
    signing_key: ec.EllipticCurvePrivateKey | None = None,
    front_proxy: FrontProxy | None = None,
    service_cidr: str = SERVICE_CIDR,
    node_ports: tuple[int, int] = NODE_PORTS,
) -> Core:
    """Wire the parts around a store; keys that are not given are made and live only as long."""
    registry = Registry(BUILTIN)
    callout = Callout(service_resolver(store))
    strategy = KindStrategy(store, ServiceAllocator(store, service_cidr, node_ports), callout)
    webhooks = Webhooks(store, callout)
    webhooks.convert_with(strategy)
    rest = Rest(store, registry, strategy, webhooks)
    tasks = TaskGroup()

    def uid_of(resource: str, namespace: str, name: str) -> str | None:
        item = store.get(resource, Key(namespace, name))
        return item.value["metadata"]["uid"] if item else None

    key = signing_key or ec.generate_private_key(ec.SECP256R1())
    api, front_proxy = Api(rest), front_proxy or FrontProxy.ephemeral()
    return Core(
        rest=rest,
        api=api,
        tokens=TokenAuthority(key, uid_of),
        authorizer=Authorizer(store),
        definitions=Definitions(rest, registry, tasks),
        callout=callout,
        aggregation=Aggregation(store, api, registry, front_proxy),
        service_proxy=ServiceProxy(store),
        front_proxy=front_proxy,
        tasks=tasks,
    )
