"""Volumes of a pod as directories, filled and refreshed like the kubelet does it.

Content volumes (configMap, secret, projected, downwardAPI) are written into a new directory each time they
change and switched over by one symbolic link (`..data`), so a reader never sees half an update.
`VolumeSet` is per pod. It does not mount anything: the launcher binds the directories where they belong.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from localmesh.node.environment import ConfigError, field_value, object_data, resource_value
from localmesh.node.process import Mount

SA_MOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
SA_VOLUME: Final = "kube-api-access-localmesh"
TOKEN_RENEWAL: Final = 0.8
"""A projected token is replaced after this share of its life (as the kubelet does)."""
DEFAULT_TOKEN_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    mode: int = 0o644


Files = dict[str, File]
Lookup = Callable[[str, str], Awaitable[Mapping[str, Any] | None]]
"""(resource "configmaps" or "secrets", name) → object in the pod's namespace, or None."""
IssueToken = Callable[[str, int], Awaitable[str]]
"""(audience "" = the API server, life in seconds) → bound token of the pod's service account."""


@dataclass(slots=True)
class _Token:
    text: str
    renew_at: float


@dataclass(slots=True)
class VolumeSet:
    """The volumes of one pod below `base`."""

    base: Path
    pod: Mapping[str, Any]
    lookup: Lookup
    issue_token: IssueToken
    ca_bundle: str
    """PEM of the API server's CA; for the virtual service-account volume."""
    _tokens: dict[tuple[str, str], _Token] = field(default_factory=dict)
    _written: dict[str, Files] = field(default_factory=dict)

    def path(self, volume: str) -> Path:
        return self.base / volume

    async def prepare(self) -> None:
        """Create or refresh every volume. Raises ConfigError naming the volume that cannot be had yet."""
        for volume in self.volumes():
            await self._prepare(volume)

    def volumes(self) -> list[Mapping[str, Any]]:
        """Declared volumes, plus the service account's files if admission did not add them."""
        spec = self.pod.get("spec") or {}
        declared: list[Mapping[str, Any]] = list(spec.get("volumes") or ())
        if self._virtual():
            declared.append({"name": SA_VOLUME, "projected": _service_account_sources()})
        return declared

    def _virtual(self) -> bool:
        spec = self.pod.get("spec") or {}
        if spec.get("automountServiceAccountToken") is False:
            return False
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        return not any(
            mount.get("mountPath", "").rstrip("/") == SA_MOUNT
            for container in containers
            for mount in container.get("volumeMounts") or ()
        )

    async def _prepare(self, volume: Mapping[str, Any]) -> None:
        name = volume["name"]
        place = self.path(name)
        if "hostPath" in volume:
            return
        if "emptyDir" in volume or set(volume) == {"name"}:
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o777)
            return
        files = await self._content(volume)
        if self._written.get(name) != files:
            await asyncio.to_thread(write_atomically, place, files)
            self._written[name] = files

    async def _content(self, volume: Mapping[str, Any]) -> Files:
        name = volume["name"]
        for kind in ("configMap", "secret"):
            if kind in volume:
                source = volume[kind]
                return await self._object(kind, source, name, source.get("defaultMode") or 0o644)
        if "downwardAPI" in volume:
            return self._downward(
                volume["downwardAPI"], name, volume["downwardAPI"].get("defaultMode") or 0o644
            )
        if "projected" in volume:
            files: Files = {}
            mode = volume["projected"].get("defaultMode") or 0o644
            for source in volume["projected"].get("sources") or ():
                files.update(await self._projection(source, name, mode))
            return files
        kinds = ", ".join(sorted(set(volume) - {"name"}))
        raise ConfigError(
            f"volume {name!r}: {kinds} is not supported by localmesh; supported are emptyDir, hostPath, "
            f"configMap, secret, projected, downwardAPI"
        )

    async def _projection(self, source: Mapping[str, Any], volume: str, mode: int) -> Files:
        if "serviceAccountToken" in source:
            return await self._token(source["serviceAccountToken"], volume, mode)
        for kind in ("configMap", "secret"):
            if kind in source:
                return await self._object(kind, source[kind], volume, mode)
        if "downwardAPI" in source:
            return self._downward(source["downwardAPI"], volume, mode)
        if "localCa" in source:
            return {"ca.crt": File(self.ca_bundle.encode(), mode)}
        raise ConfigError(f"volume {volume!r}: unsupported projection {', '.join(sorted(source))}")

    async def _object(self, kind: str, source: Mapping[str, Any], volume: str, mode: int) -> Files:
        name = source.get("name") or source.get("secretName") or ""
        found = await self.lookup("secrets" if kind == "secret" else "configmaps", name)
        if found is None:
            if source.get("optional"):
                return {}
            raise ConfigError(f"volume {volume!r}: {kind.lower()} {name!r} not found")
        data = object_data(kind, found)
        items = source.get("items")
        if not items:
            return {key: File(value, mode) for key, value in data.items()}
        files: Files = {}
        for item in items:
            if item["key"] in data:
                files[_checked(item["path"], volume)] = File(data[item["key"]], item.get("mode") or mode)
            elif not source.get("optional"):
                raise ConfigError(f"volume {volume!r}: {kind.lower()} {name!r} has no key {item['key']!r}")
        return files

    def _downward(self, source: Mapping[str, Any], volume: str, mode: int) -> Files:
        files: Files = {}
        for item in source.get("items") or ():
            where = f"volume {volume!r}: {item.get('path')}"
            if "fieldRef" in item:
                text = field_value(self.pod, item["fieldRef"].get("fieldPath", ""), where)
            else:
                text = resource_value(
                    self._container(item["resourceFieldRef"]), item["resourceFieldRef"], where
                )
            files[_checked(item["path"], volume)] = File(text.encode(), item.get("mode") or mode)
        return files

    def _container(self, reference: Mapping[str, Any]) -> Mapping[str, Any]:
        spec = self.pod.get("spec") or {}
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            if container.get("name") == reference.get("containerName"):
                return dict(container)
        return {}

    async def _token(self, source: Mapping[str, Any], volume: str, mode: int) -> Files:
        path = _checked(source.get("path") or "token", volume)
        seconds = int(source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS)
        known = self._tokens.get((volume, path))
        now = time.monotonic()
        if known is None or now >= known.renew_at:
            text = await self.issue_token(source.get("audience") or "", seconds)
            known = self._tokens[(volume, path)] = _Token(text, now + seconds * TOKEN_RENEWAL)
        return {path: File(known.text.encode(), mode)}

    def mounts(self, container: Mapping[str, Any]) -> tuple[Mount, ...]:
        """The bind mounts of one container. Raises ConfigError for a mount of an unknown volume."""
        by_name = {volume["name"]: volume for volume in self.volumes()}
        wanted = list(container.get("volumeMounts") or ())
        if self._virtual():
            wanted.append({"name": SA_VOLUME, "mountPath": SA_MOUNT, "readOnly": True})
        mounts = [self._mount(mount, by_name, container) for mount in wanted]
        return tuple(sorted(mounts, key=lambda mount: mount.target.count("/")))

    def _mount(
        self, mount: Mapping[str, Any], volumes: Mapping[str, Mapping[str, Any]], container: Mapping[str, Any]
    ) -> Mount:
        volume = volumes.get(mount.get("name", ""))
        if volume is None:
            raise ConfigError(
                f"container {container.get('name')!r} mounts unknown volume {mount.get('name')!r}"
            )
        source = Path(volume["hostPath"]["path"]) if "hostPath" in volume else self.path(volume["name"])
        read_only = bool(mount.get("readOnly")) or any(
            kind in volume for kind in ("configMap", "secret", "projected", "downwardAPI")
        )
        if mount.get("subPath"):
            source = source / _checked(mount["subPath"], volume["name"])
            if "emptyDir" in volume:
                source.mkdir(parents=True, exist_ok=True)
            source = source.resolve()
        if not source.exists():
            raise ConfigError(f"container {container.get('name')!r}: {source} does not exist")
        return Mount(str(source), mount["mountPath"], read_only)


def _checked(path: str, volume: str) -> str:
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"volume {volume!r}: path {path!r} must be relative and without '..'")
    return path


def _service_account_sources() -> dict[str, Any]:
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"localCa": {}},
            {
                "downwardAPI": {
                    "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
                }
            },
        ],
    }


def write_atomically(place: Path, files: Files) -> None:
    """Make `place` show exactly `files` (relative path → content) in one step."""
    place.mkdir(parents=True, exist_ok=True)
    data = place / "..data"
    old = data.resolve() if data.is_symlink() else None
    fresh = place / f"..{time.time_ns()}"
    fresh.mkdir()
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        target.chmod(file.mode)
    link = place / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    link.replace(data)
    tops = {path.split("/")[0] for path in files}
    for top in tops:
        entry = place / top
        if not entry.is_symlink():
            entry.symlink_to(f"..data/{top}")
    for entry in place.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if old is not None and old.exists() and old != fresh:
        shutil.rmtree(old)
