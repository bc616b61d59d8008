"""The image table: which local command stands for a container image.

There is no registry and no image here. A name is looked up in the table (tag and digest do not count), the
built-in entries first extended by the ConfigMap `localmesh-images` in kube-system or by a file given to `up`.
It reads no object and starts nothing; it looks whether a compiled form of the sidecar is there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

from dataplane.compiled import search_path

EXTENSION_NAMESPACE: Final = "kube-system"
EXTENSION_CONFIG_MAP: Final = "localmesh-images"
SOURCE_ROOT: Final = Path(__file__).resolve().parent.parent
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Image:
    """What an image name means here."""

    name: str
    """Name without tag, or a glob (`*`, `?`) over such names."""
    command: tuple[str, ...]
    """Stands for the image's ENTRYPOINT; a container's `command` replaces it."""
    args: tuple[str, ...] = ()
    """Stands for CMD; dropped when the container gives `command` or `args`."""
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    description: str = ""


class ImageTableError(ValueError):
    """An extension of the table that cannot be read; the message names the entry and the fix."""


def _python_env() -> dict[str, str]:
    """`python` is this installation's interpreter, so that our packages and their dependencies are there."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
        "PYTHONPATH": str(SOURCE_ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # a container's writes are thrown away, `up` compiles beforehand
        "PYTHONNOUSERSITE": "1",
    }


def builtin_images() -> tuple[Image, ...]:
    env = _python_env()
    proxy = env | {"PYTHONPATH": search_path(SOURCE_ROOT)}
    ours = (
        ("smi-mesh/proxy", "dataplane", "the sidecar"),
        ("smi-mesh/controller", "controller", "the control plane"),
        ("smi-mesh/echo", "conformance.app", "responder and caller of tests and demos"),
        ("smi-mesh/sample", "localmesh.sample", "the sample application"),
    )
    shells = (("sh", "sh"), ("busybox", "sh"), ("bash", "bash"), ("alpine", "sh"), ("debian", "sh"))
    return (
        *(
            Image(
                name,
                ("python", "-m", module),
                env=proxy if module == "dataplane" else env,
                description=text,
            )
            for name, module, text in ours
        ),
        Image(
            "python", (), ("python",), env=env, description="Python with the packages of this installation"
        ),
        *(Image(name, (), (shell,), description="the host's shell and tools") for name, shell in shells),
    )


def without_tag(image: str) -> str:
    """`docker.io/library/python:3.11@sha256:…` → `python`; other registries stay in the name."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.partition(":")[0]
    for prefix in ("docker.io/", "index.docker.io/", "localhost/", "library/"):
        name = name.removeprefix(prefix)
    return name


class ImageTable:
    """Built-in entries and extensions; later extensions win, and any extension wins over a built-in."""

    def __init__(self, extensions: tuple[Image, ...] = ()) -> None:
        self._entries = (*reversed(extensions), *builtin_images())

    @property
    def entries(self) -> tuple[Image, ...]:
        return self._entries

    def find(self, image: str) -> Image | None:
        """The entry for `image`. Our own images are found behind any registry prefix as well."""
        name = without_tag(image)
        for entry in self._entries:
            if name == entry.name or fnmatchcase(name, entry.name):
                return entry
            if entry.name.startswith("smi-mesh/") and name.endswith("/" + entry.name):
                return entry
        return None

    def explain_missing(self, image: str) -> str:
        known = ", ".join(entry.name for entry in self._entries)
        return (
            f"image {image!r} is not in the image table: localmesh runs local commands instead of images. "
            f"Known: {known}. To add it: kubectl -n {EXTENSION_NAMESPACE} create configmap "
            f"{EXTENSION_CONFIG_MAP} --from-literal=images="
            f"'{without_tag(image)}: {{command: [/path/to/program]}}' "
            f"(or `--images FILE` of `smi-mesh local up` with the same YAML)"
        )


def read_extensions(data: Mapping[str, str]) -> tuple[Image, ...]:
    """Entries of a ConfigMap's `data`: every value is YAML, a mapping of image name → entry.

    An entry is a list (the command) or a mapping with `command`, and optionally `args`, `env`, `workdir`.
    Raises ImageTableError.
    """
    return tuple(image for key in sorted(data) for image in parse_extension(data[key], key))


def parse_extension(text: str, where: str) -> tuple[Image, ...]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ImageTableError(f"{where}: not YAML: {error}") from error
    if document is None:
        return ()
    if not isinstance(document, dict):
        raise ImageTableError(
            f"{where}: expected a mapping of image name to entry, got {type(document).__name__}"
        )
    return tuple(_entry(str(name), value, where) for name, value in document.items())


def _entry(name: str, value: Any, where: str) -> Image:
    at = f"{where}: image {name!r}"
    if isinstance(value, list):
        value = {"command": value}
    if not isinstance(value, dict):
        raise ImageTableError(f"{at}: expected a list (the command) or a mapping with `command`")
    unknown = sorted(set(value) - {"command", "args", "env", "workdir"})
    if unknown:
        raise ImageTableError(f"{at}: unknown field {unknown[0]!r}; known are command, args, env, workdir")
    command = _words(value.get("command"), f"{at}: command")
    if not command:
        raise ImageTableError(f"{at}: `command` is required, a list of words")
    env = value.get("env") or {}
    if not isinstance(env, dict):
        raise ImageTableError(f"{at}: env: expected a mapping")
    return Image(
        name=without_tag(name),
        command=command,
        args=_words(value.get("args"), f"{at}: args"),
        env={str(key): str(item) for key, item in env.items()},
        workdir=str(value.get("workdir") or "/"),
        description=f"added by {where}",
    )


def _words(value: Any, at: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str | int | float) for word in value):
        raise ImageTableError(f"{at}: expected a list of words")
    return tuple(str(word) for word in value)


def command_line(image: Image, container: Mapping[str, Any]) -> tuple[str, ...]:
    """ENTRYPOINT/CMD rules: `command` replaces both, `args` replaces CMD only."""
    command = tuple(container.get("command") or ())
    args = tuple(container.get("args") or ())
    if command:
        return command + args
    return image.command + (args or image.args)
