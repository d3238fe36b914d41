"""docs/protocol.md says of every structure what the code does."""

import dataclasses
import re
from inspect import signature
from pathlib import Path

import pytest

from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.topics import Topics
from tests.vectors.protocol_structures import STRUCTURES, Structure

TEXT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
SECTIONS = {
    part.split("\n", 1)[0]: part for part in re.split(r"^##+ ", TEXT, flags=re.M)[1:]
}


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda each: each.name)
def test_document_of_a_structure_has_its_fields_and_sizes(structure: Structure) -> None:
    name, codec, example = structure
    section = SECTIONS[name]

    sizes = re.search(r"At most ([\d,]+) bytes; the example has ([\d,]+)", section)
    assert sizes is not None
    assert [int(size.replace(",", "")) for size in sizes.groups()] == [
        codec.bytes_max,
        len(codec.pack(example)),
    ]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == example_fields(example)


def example_fields(example: object) -> list[str]:
    assert dataclasses.is_dataclass(example)
    return [field.name for field in dataclasses.fields(example)]


@pytest.mark.parametrize("kind", MessageKind, ids=lambda kind: kind.name)
def test_document_names_every_kind(kind: MessageKind) -> None:
    assert re.search(rf"\b{kind.name}\b", SECTIONS["ENVELOPE"])


@pytest.mark.parametrize(
    "method",
    [
        name
        for name, value in vars(Topics).items()
        if callable(value) and not name.startswith("_") and "filters" not in name
        if name != "parse"
    ],
)
def test_document_names_every_topic(method: str) -> None:
    made = getattr(Topics("demo"), method)
    topic = made(*["x"] * len(signature(made).parameters)) + "/"
    shape = re.escape(topic.removeprefix("starling/1/demo/"))
    shape = shape.replace("/x/", "/<\\w+>/").removesuffix("/")

    assert re.search(f"^\\| `{shape}` \\|", SECTIONS["Topics"], re.M)
