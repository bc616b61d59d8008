"""The image table: names, extensions, ENTRYPOINT and CMD rules, messages."""

from __future__ import annotations

import pytest

from localmesh.images import (
    ImageTable,
    ImageTableError,
    command_line,
    parse_extension,
    read_extensions,
    without_tag,
)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("python", "python"),
        ("python:3.11-slim", "python"),
        ("docker.io/library/python:3", "python"),
        ("busybox@sha256:abc", "busybox"),
        ("registry:5000/team/app:1", "registry:5000/team/app"),
        ("smi-mesh/proxy:0.1.0", "smi-mesh/proxy"),
    ],
)
def test_tag_and_default_registry_do_not_count(image: str, name: str) -> None:
    assert without_tag(image) == name


def test_our_images_are_found_behind_any_registry() -> None:
    table = ImageTable()
    for image in ("smi-mesh/proxy", "ghcr.io/example/smi-mesh/proxy:1"):
        found = table.find(image)
        assert found is not None
        assert found.command == ("python", "-m", "dataplane")


def test_unknown_image_is_explained() -> None:
    table = ImageTable()
    assert table.find("nginx:1") is None
    message = table.explain_missing("nginx:1")
    assert "'nginx:1'" in message
    assert "create configmap localmesh-images" in message
    assert "smi-mesh/echo" in message


def test_extensions_win_and_may_be_globs() -> None:
    extra = read_extensions(
        {"a": "corp/*: [/bin/echo]\npython: {command: [/opt/py], args: [-V], env: {A: 1}}"}
    )
    table = ImageTable(extra)
    echo, python = table.find("corp/anything:3"), table.find("python:3")
    assert echo is not None
    assert python is not None
    assert echo.command == ("/bin/echo",)
    assert (python.command, python.args, dict(python.env)) == (("/opt/py",), ("-V",), {"A": "1"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a", "expected a mapping"),
        ("x: 3", "image 'x': expected a list"),
        ("x: {args: [a]}", "`command` is required"),
        ("x: {command: [a], comand: b}", "unknown field 'comand'"),
        ("x: {command: text}", "expected a list of words"),
        ("x: [", "not YAML"),
    ],
)
def test_bad_extensions_name_the_entry(text: str, problem: str) -> None:
    with pytest.raises(ImageTableError, match=problem):
        parse_extension(text, "here")


def test_command_replaces_entrypoint_and_cmd_args_only_cmd() -> None:
    (image,) = parse_extension("x: {command: [run], args: [default]}", "here")
    assert command_line(image, {}) == ("run", "default")
    assert command_line(image, {"args": ["a"]}) == ("run", "a")
    assert command_line(image, {"command": ["c"]}) == ("c",)
    assert command_line(image, {"command": ["c"], "args": ["a"]}) == ("c", "a")
