"""What KUTTL's documents say, as values: TestSuite, TestStep, TestAssert and TestFile. Pure.

Source: KUTTL's configuration reference (kuttl.dev/v1beta1; kudo.dev is its older name). A field that nobody
knows is refused: a misspelt `timeout` must not be a test that proves less than it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

import pydantic

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

KINDS: Final = ("TestSuite", "TestStep", "TestAssert", "TestFile")
DEFAULT_SECONDS: Final = 30
DEFAULT_PARALLEL: Final = 8


class FormatError(ValueError):
    """A suite that cannot be read; the text names the file, the field and the fix."""


def is_settings(document: Mapping[str, Any]) -> bool:
    """Whether a document speaks to the test runner and not to the cluster."""
    group = str(document.get("apiVersion", "")).partition("/")[0]
    return group in ("kuttl.dev", "kudo.dev") and document.get("kind") in KINDS


class _Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class _Document(_Settings):
    @classmethod
    def read(cls, document: Mapping[str, Any], where: str) -> Self:
        """Parse a document without its apiVersion and kind; raises FormatError."""
        fields = {key: value for key, value in document.items() if key not in ("apiVersion", "kind")}
        try:
            return cls.model_validate({key: value for key, value in fields.items() if value is not None})
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or document.get("kind", "")
            raise FormatError(f"{where}: {document.get('kind')}: {field}: {first['msg']}") from None


class Metadata(_Settings):
    """The part of an object's metadata that a runner's document may carry."""

    name: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    namespace: str = ""


class Command(_Settings):
    """A program to run: `command` (split into words, `$NAME` filled in) or `script` (given to `sh -c`)."""

    command: str = ""
    script: str = ""
    namespaced: bool = False
    """Append `--namespace <the test's>` unless the command names one."""
    ignoreFailure: bool = False  # noqa: N815 - the format's name
    background: bool = False
    """Only in a TestSuite: runs until the suite's end."""
    skipLogOutput: bool = False  # noqa: N815 - the format's name
    timeout: int = 0
    """Seconds; 0 = the suite's or the step's, negative = none."""

    @pydantic.model_validator(mode="after")
    def _one_of(self) -> Self:
        if bool(self.command) == bool(self.script):
            raise ValueError("set either `command` or `script`")
        if self.script and self.namespaced:
            raise ValueError("`script` cannot be `namespaced`: use $NAMESPACE in it")
        return self


class AssertCommand(Command):
    """A command that must succeed for a step to pass; it is repeated until then."""

    @pydantic.model_validator(mode="after")
    def _no_more(self) -> Self:
        if self.ignoreFailure or self.background:
            raise ValueError("a command of a TestAssert has neither `ignoreFailure` nor `background`")
        return self


class Reference(_Settings):
    """What a step deletes: an object by name, or every object of a kind, or those with labels."""

    apiVersion: str  # noqa: N815 - the format's name
    kind: str
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}


class Collector(_Settings):
    """What to print when a step has failed: logs of pods, events, or a command's output."""

    type: Literal["", "pod", "command", "events"] = ""
    pod: str = ""
    namespace: str = ""
    container: str = ""
    selector: str = ""
    tail: int = 0
    """Last lines; 0 = 10 with a selector, all with a pod's name."""
    command: str = ""
    name: str = ""
    """Of the object whose events are wanted."""

    @property
    def what(self) -> Literal["pod", "command", "events"]:
        """The type, told from the fields when it is not written."""
        if self.type:
            return self.type
        return "command" if self.command else "pod"

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Self:
        pods = bool(self.pod or self.selector or self.container)
        if self.what == "pod" and not (self.pod or self.selector):
            raise ValueError("a collector of type pod needs `pod` or `selector`")
        if self.what == "command" and (not self.command or pods or self.namespace):
            raise ValueError("a collector of type command has `command` and nothing else")
        return self


class TestAssert(_Document):
    """Settings of a step's assertions."""

    __test__ = False  # not a class of pytest's
    metadata: Metadata = Metadata()
    timeout: int = 0
    """Seconds; 0 = the suite's."""
    collectors: tuple[Collector, ...] = ()
    commands: tuple[AssertCommand, ...] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _no_expressions(cls, fields: Any) -> Any:
        found = [name for name in ("assertAny", "assertAll", "resourceRefs") if name in fields]
        if found:
            raise ValueError(f"{', '.join(found)}: CEL expressions are not supported; assert on objects")
        return fields


class TestStep(_Document):
    """Settings of one step."""

    __test__ = False  # not a class of pytest's
    metadata: Metadata = Metadata()
    index: int | None = None
    """Puts the step elsewhere than its file's number says."""
    apply: tuple[str, ...] = ()
    """Files or directories, relative to the file the step is written in."""
    assert_: tuple[str, ...] = pydantic.Field(default=(), alias="assert")
    error: tuple[str, ...] = ()
    delete: tuple[Reference, ...] = ()
    commands: tuple[Command, ...] = ()
    unitTest: bool = False  # noqa: N815 - the format's name
    """Safe without a real cluster; it makes no difference here."""
    kubeconfig: str = ""
    kubeconfigLoading: Literal["", "Eager", "Lazy"] = ""  # noqa: N815 - the format's name
    context: str = ""


class Requirement(_Settings):
    """One expression of a label selector."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        return {
            "In": value in self.values,
            "NotIn": value not in self.values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[self.operator]


class Selector(_Settings):
    """A label selector."""

    matchLabels: dict[str, str] = {}  # noqa: N815 - the format's name
    matchExpressions: tuple[Requirement, ...] = ()  # noqa: N815 - the format's name

    def selects(self, labels: Mapping[str, str]) -> bool:
        equal = all(labels.get(key) == value for key, value in self.matchLabels.items())
        return equal and all(expression.holds(labels) for expression in self.matchExpressions)


class TestFile(_Document):
    """Whether the file it stands in belongs to this run (`--test-run-labels`)."""

    __test__ = False  # not a class of pytest's
    metadata: Metadata = Metadata()
    testRunSelector: Selector = Selector()  # noqa: N815 - the format's name


class TestSuite(_Document):
    """Settings of a whole suite (`kuttl-test.yaml`)."""

    __test__ = False  # not a class of pytest's
    metadata: Metadata = Metadata()
    crdDir: str = ""  # noqa: N815 - the format's name
    manifestDirs: tuple[str, ...] = ()  # noqa: N815 - the format's name
    testDirs: tuple[str, ...] = ()  # noqa: N815 - the format's name
    skipDelete: bool = False  # noqa: N815 - the format's name
    timeout: int = 0
    """Seconds of a step; 0 = DEFAULT_SECONDS."""
    parallel: int = 0
    """Tests at once; 0 = DEFAULT_PARALLEL."""
    artifactsDir: str = ""  # noqa: N815 - the format's name
    commands: tuple[Command, ...] = ()
    reportFormat: Literal["", "JSON", "XML", "json", "xml"] = ""  # noqa: N815 - the format's name
    reportName: str = "kuttl-report"  # noqa: N815 - the format's name
    reportGranularity: Literal["step", "test"] = "step"  # noqa: N815 - the format's name
    namespace: str = ""
    suppress: tuple[str, ...] = ()
    """Kinds of logs that are left out; `events` is the one there is."""
    ignoreFiles: tuple[str, ...] = ("README*",)  # noqa: N815 - the format's name
    startControlPlane: bool = False  # noqa: N815 - the format's name
    attachControlPlaneOutput: bool = False  # noqa: N815 - the format's name
    controlPlaneArgs: tuple[str, ...] = ()  # noqa: N815 - the format's name
    startKIND: bool = False  # noqa: N815 - the format's name
    kindConfig: str = ""  # noqa: N815 - the format's name
    kindContext: str = ""  # noqa: N815 - the format's name
    kindNodeCache: bool = False  # noqa: N815 - the format's name
    kindContainers: tuple[str, ...] = ()  # noqa: N815 - the format's name
    skipClusterDelete: bool = False  # noqa: N815 - the format's name

    @property
    def left_out(self) -> tuple[str, ...]:
        """The fields that are set without effect, because this runner starts no cluster for a suite."""
        names = (
            "startControlPlane", "attachControlPlaneOutput", "controlPlaneArgs", "startKIND", "kindConfig",
            "kindContext", "kindNodeCache", "kindContainers", "skipClusterDelete",
        )  # fmt: skip
        return tuple(name for name in names if getattr(self, name))
