"""What the SMI documents ask for, as a list of its own: what no case tests is seen only from this side."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Literal, Self

import pydantic
import yaml

from conformance.case import Case, Document


class RequirementError(ValueError):
    """The list and the cases do not fit together; the text names what is wrong."""


class Requirement(pydantic.BaseModel):
    """One thing a document asks for or shows, in our words."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    section: str
    versions: tuple[str, ...] = pydantic.Field(default=(), alias="in")
    """Versions of the document it stands in; empty = all."""
    force: Literal["must", "should", "example", "open"]
    says: str
    cases: tuple[str, ...]
    reason: str = ""
    """Why there is no case."""

    @pydantic.model_validator(mode="after")
    def _cases_or_reason(self) -> Self:
        if bool(self.cases) == bool(self.reason):
            raise ValueError(f"{self.says!r}: name cases, or the reason why there are none")
        return self


class DocumentList(pydantic.BaseModel):
    """All requirements of one document."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: Document
    versions: tuple[str, ...]
    requirements: tuple[Requirement, ...]

    @pydantic.model_validator(mode="after")
    def _known_versions(self) -> Self:
        for requirement in self.requirements:
            unknown = sorted(set(requirement.versions) - set(self.versions))
            if unknown:
                raise ValueError(f"{self.name}: {requirement.says!r}: no version {', '.join(unknown)}")
        return self


class Catalogue(pydantic.BaseModel):
    """All documents."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    documents: tuple[DocumentList, ...]


def read(cases: Iterable[Case]) -> Catalogue:
    """The list that comes with the suite, checked against the cases; raises RequirementError."""
    text = (resources.files("conformance") / "requirements.yaml").read_text(encoding="utf-8")
    return parse(text, cases)


def parse(text: str, cases: Iterable[Case]) -> Catalogue:
    """Parse a list; raises RequirementError for a case that is not there, or that refers to a document
    without being named there."""
    try:
        catalogue = Catalogue.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, pydantic.ValidationError) as error:
        raise RequirementError(f"requirements.yaml: {error}") from None
    known = {case.name: case for case in cases}
    named = {
        (document.name, name)
        for document in catalogue.documents
        for requirement in document.requirements
        for name in requirement.cases
    }
    wrong = [f"there is no case {name} ({document})" for document, name in sorted(named) if name not in known]
    elsewhere = {name for _, name in named}
    wrong += [
        f"case {name} refers to {case.refs[0].document} and stands at no requirement"
        for name, case in known.items()
        if case.refs and name not in elsewhere
    ]
    if wrong:
        raise RequirementError("requirements.yaml: " + "; ".join(wrong))
    return catalogue
