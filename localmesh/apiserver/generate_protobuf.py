"""Write data/protobuf.json.gz: how Kubernetes messages are laid out, from upstream's own sources.

    python -m localmesh.apiserver.generate_protobuf DIRECTORY

DIRECTORY holds checkouts called api, apimachinery and apiextensions-apiserver (github.com/kubernetes/…, or
Debian's golang-k8s-*-dev). The .proto files give numbers and types; types.go gives what they leave out: JSON
names, which fields are pointers (a zero is then a value), and which structs are inlined. Only facts are kept;
see data/NOTICE.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from localmesh.apiserver.jsonvalue import dumps
from localmesh.apiserver.protobuf import PATH, SCALARS

SERVED = (
    "api/core/v1", "api/apps/v1", "api/batch/v1", "api/autoscaling/v1", "api/autoscaling/v2", "api/policy/v1",
    "api/coordination/v1", "api/discovery/v1", "api/events/v1", "api/networking/v1", "api/rbac/v1",
    "api/admissionregistration/v1", "api/authentication/v1", "api/authorization/v1", "api/scheduling/v1",
    "api/scheduling/v1alpha3", "api/storage/v1", "apiextensions-apiserver/pkg/apis/apiextensions/v1",
    "apimachinery/pkg/apis/meta/v1", "apimachinery/pkg/runtime", "apimachinery/pkg/util/intstr",
    "apimachinery/pkg/api/resource",
)  # fmt: skip

_COMMENT = re.compile(r"//[^\n]*")
_MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(
    r"^\s*(?P<label>optional|repeated)?\s*(?P<type>map<\s*string\s*,\s*(?P<value>[\w.]+)\s*>|[\w.]+)\s+\w+\s*="
    r"\s*(?P<number>\d+)",
    re.MULTILINE,
)
_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
_TAGGED = re.compile(r"^\s*(?:\w+\s+)?(?P<type>[*\w.\[\]]+)\s+`(?P<tags>[^`]*)`", re.MULTILINE)
_NUMBER = re.compile(r'protobuf:"\w+,(\d+),')
_JSON = re.compile(r'json:"([^",]*)((?:,\w+)*)"')


def read_proto(text: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Messages as {number: [name placeholder, type, flags]}; types are qualified."""
    text = _COMMENT.sub("", text)
    package_match = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
    assert package_match is not None
    package = package_match[1]

    def qualify(name: str) -> str:
        return name if name in SCALARS else name.lstrip(".") if "." in name else f"{package}.{name}"

    for name, body in _MESSAGE.findall(text):
        fields = {}
        for match in _FIELD.finditer(body):
            kind = "{}" + qualify(match["value"]) if match["value"] else qualify(match["type"])
            kind = "[]" + kind if match["label"] == "repeated" else kind
            fields[match["number"]] = ["", kind, ""]
        yield f"{package}.{name}", fields


def read_go(text: str) -> Iterator[tuple[str, str, str, str]]:
    """(struct, number, JSON name, flag): `*` pointer, `!` written even when empty, `^` inlined."""
    for struct, body in _STRUCT.findall(text):
        for match in _TAGGED.finditer(body):
            number, json = _NUMBER.search(match["tags"]), _JSON.search(match["tags"])
            if number is None or json is None:
                continue
            if not json[1]:
                flag = "^"
            elif match["type"].startswith("*"):
                flag = "*"
            else:
                flag = "" if "omitempty" in json[2] or "omitzero" in json[2] else "!"
            yield struct, number[1], json[1], flag


def collect(root: Path) -> dict[str, dict[str, list[str]]]:
    messages: dict[str, dict[str, list[str]]] = {}
    for folder in SERVED:
        directory = root / folder
        found = dict(read_proto((directory / "generated.proto").read_text()))
        by_struct = {name.rpartition(".")[2]: fields for name, fields in found.items()}
        for path in sorted(directory.glob("*.go")):
            if path.name.endswith("_test.go") or "generated" in path.name:
                continue
            for struct, number, name, flag in read_go(path.read_text()):
                field = by_struct.get(struct, {}).get(number)
                if field is not None:
                    field[0], field[2] = name, flag
        messages |= found
    return messages


def main() -> None:
    messages = collect(Path(sys.argv[1]))
    with gzip.GzipFile(PATH, "wb", mtime=0) as file:
        file.write(dumps(messages))


if __name__ == "__main__":
    main()
