"""What every pod runner is given: the node's own facts and its doors to the outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from localmesh.apiserver.api import Api
from localmesh.events import EventRecorder
from localmesh.images import ImageTable
from localmesh.node.network import Network

NODE_NAME = "local"

IssueToken = Callable[[str, str, str, int, tuple[str, str]], Awaitable[str]]
"""(namespace, service account, audience, seconds, (pod name, pod uid)) → token."""


@dataclass(slots=True)
class NodeContext:
    """Shared by all runners of the node. When `images` is replaced, `images_changed` is set and replaced."""

    api: Api
    network: Network
    events: EventRecorder
    issue_token: IssueToken
    cluster: str
    """Cluster id: mark of processes, part of namespace names."""
    pods_dir: Path
    domain: str
    ca_bundle: str
    api_host: str
    """KUBERNETES_SERVICE_HOST as pods get it."""
    api_port: int
    root: bool
    """Containers can be given another user and group (root, and mounts of their own)."""
    hide: tuple[str, ...]
    """Host directories pods do not see (mode netns)."""
    refresh_seconds: float = 3.0
    """How often content volumes are compared with their sources, and tokens with their age."""
    retry_seconds: float = 1.0
    """After which what a pod needs and lacks is looked for again."""
    images: ImageTable = field(default_factory=ImageTable)
    images_changed: asyncio.Event = field(default_factory=asyncio.Event)
    noted: set[str] = field(default_factory=set)
    """Limits met while running pods, in words."""

    def pod_dir(self, uid: str) -> Path:
        return self.pods_dir / uid

    def replace_images(self, table: ImageTable) -> None:
        self.images = table
        self.images_changed.set()
        self.images_changed = asyncio.Event()
