"""What a mesh says of itself: the features it claims, how pods join it, what stays outside of it.

Profiles of known meshes are YAML files beside this module; users bring their own in the same form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Final, Self

import pydantic
import yaml

from conformance.case import Case, Level
from conformance.features import FEATURES

KNOWN: Final = ("smi-mesh", "osm", "linkerd", "fsm")


class ProfileError(ValueError):
    """A profile that cannot be used; the text names the file, the field and the fix."""


class Profile(pydantic.BaseModel):
    """One mesh as the suite needs to know it."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str = ""
    features: tuple[str, ...]
    """Claimed features; `all` stands for every one, `-name` takes one away."""
    rules: bool = False
    """Whether it follows docs/semantics.md: implementation-specific cases apply to it."""
    namespace_labels: dict[str, str] = {}
    namespace_annotations: dict[str, str] = {}
    pod_annotations: dict[str, str] = {}
    """On every pod of the suite; `{port}` is the control port, which must stay outside the mesh."""
    outside_labels: dict[str, str] = {}
    outside_annotations: dict[str, str] = {}
    """On pods that must not get a sidecar."""
    detect: tuple[str, ...] = ()
    """Paths of the API; the mesh is there when one of them exists."""
    not_on_loopback: tuple[str, ...] = ()
    """Features that it cannot have where all pods share one network of 127.x addresses, because nothing
    can be intercepted there (the embedded cluster without root)."""
    standing_grants: bool = True
    """Whether open cases need TrafficTargets; False for a mesh without access control."""

    @classmethod
    def read(cls, text: str, where: str) -> Self:
        """Parse a profile; raises ProfileError."""
        try:
            profile = cls.model_validate(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ProfileError(f"{where}: not YAML: {error}") from None
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ProfileError(f"{where}: {field}: {first['msg']}") from None
        named = {name.removeprefix("-") for name in profile.features} | set(profile.not_on_loopback)
        unknown = named - set(FEATURES) - {"all"}
        if unknown:
            raise ProfileError(
                f"{where}: unknown features {', '.join(sorted(unknown))}: see `smi-mesh conformance list`"
            )
        return profile

    @property
    def claimed(self) -> frozenset[str]:
        """The features it claims, spelled out."""
        return expand(self.features)

    def on_loopback(self) -> Self:
        """The profile of the same mesh where nothing can be intercepted."""
        less = tuple(f"-{name}" for name in self.not_on_loopback)
        return self.model_copy(update={"features": (*self.features, *less)})

    def refuses(self, case: Case) -> str | None:
        """Why this case does not apply to the mesh, or None when it does."""
        missing = [name for name in (case.feature, *case.needs) if name not in self.claimed]
        if missing:
            return f"{self.name} does not claim {', '.join(missing)}"
        if case.level is Level.IMPLEMENTATION and not self.rules:
            return f"the specification leaves it open and {self.name} does not claim our rules"
        return None


def expand(features: Iterable[str]) -> frozenset[str]:
    """Features spelled out: `all` stands for every one, `-name` takes one away."""
    listed = frozenset(features)
    named = frozenset(name for name in listed if not name.startswith("-"))
    without = frozenset(name[1:] for name in listed if name.startswith("-"))
    return (frozenset(FEATURES) if "all" in named else named) - without


def known(name: str) -> Profile:
    """A profile that comes with the suite."""
    file = resources.files("conformance") / "profiles" / f"{name}.yaml"
    return Profile.read(file.read_text(encoding="utf-8"), name)


def load(choice: str) -> Profile:
    """A known mesh by name, or a profile by file; raises ProfileError."""
    if choice in KNOWN:
        return known(choice)
    try:
        return Profile.read(Path(choice).read_text(encoding="utf-8"), choice)
    except OSError as error:
        names = ", ".join(("auto", *KNOWN))
        raise ProfileError(f"--mesh {choice}: {error.strerror}; expected {names} or a file") from None


def labels_with_port(entries: Mapping[str, str], port: int) -> dict[str, str]:
    """Annotations with `{port}` filled in."""
    return {key: value.replace("{port}", str(port)) for key, value in entries.items()}


def candidates() -> Iterable[Profile]:
    """The known meshes in the order in which they are looked for."""
    return (known(name) for name in KNOWN)
