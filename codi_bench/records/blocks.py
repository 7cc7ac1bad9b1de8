"""A block of a baseline file: fields that most numbers share are written once, above them; a number adds or overrides some.

    {"source": "…", "n": 100, "metrics": {"single_0": 0.31, "single_1": {"value": 0.28, "n": 99}}}

A bare number is a value. `null` takes a shared field away from a number. In memory every entry has all its fields.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

METRICS, VALUE = "metrics", "value"
OWN = (VALUE, "low", "high", "cell")  # of the number itself, even where two are the same
WIDTH = 130  # columns: an object that fits is one line of a diff


class Block:
    """Annotation of a dict of entries that files write as a block; entries that share nothing are read unchanged."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        write = core_schema.plain_serializer_function_ser_schema(block_of)
        return core_schema.no_info_before_validator_function(entries_of, handler(source), serialization=write)


def entries_of(block: Any) -> Any:
    """The complete entry of each metric; anything but a block is left to the validator of the entries."""
    if not isinstance(block, dict) or not isinstance(block.get(METRICS), dict):
        return block
    shared = {name: field for name, field in block.items() if name != METRICS}
    if shared and not block[METRICS]:
        raise ValueError(f"{METRICS} has no number that could have {', '.join(shared)}")
    entries = {}
    for metric, entry in block[METRICS].items():
        own = {VALUE: entry} if isinstance(entry, int | float) and not isinstance(entry, bool) else entry
        entries[metric] = _merge(shared, own) if isinstance(own, dict) else own
    return entries


def block_of(entries: Mapping[str, BaseModel]) -> dict[str, Any]:
    """Write complete entries as one block: fields that more than half of them have are shared."""
    if not entries:
        return {}
    contents = {metric: entry.model_dump(exclude_defaults=True) for metric, entry in entries.items()}
    shared = _common(list(contents.values()))
    metrics = {metric: _own(entry, shared) for metric, entry in contents.items()}
    return {**shared, METRICS: {metric: own[VALUE] if own.keys() == {VALUE} else own for metric, own in metrics.items()}}


def part_text(name: str, value: Any, depth: int, *, block: bool) -> str:
    """The lines of a field of a JSON object, with sorted keys. block: each number, and anything that fits, takes one line."""
    begin = f"{' ' * depth}{json.dumps(name)}: "
    if not block:
        return begin + json.dumps(value, indent=1, sort_keys=True).replace("\n", "\n" + " " * depth)
    line = begin + json.dumps(value, sort_keys=True)
    if not isinstance(value, dict) or not value or (METRICS not in value and name != METRICS and len(line) < WIDTH):
        return line
    fields = [part_text(field, value[field], depth + 1, block=True) for field in sorted(value)]
    return f"{begin}{{\n" + ",\n".join(fields) + f"\n{' ' * depth}}}"


def block_schema(schema: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The JSON Schema of a file whose fields of these names are blocks: an entry may lack any field, and null takes one away."""
    for name in names:
        entry = schema["properties"][name].pop("additionalProperties")["$ref"]
        fields = _optional(schema["$defs"], entry)
        number = [{"type": "number"}] * (VALUE in fields)
        metrics = {"additionalProperties": {"anyOf": [*number, {"$ref": entry}]}, "type": "object"}
        shared = {field: {"$ref": f"{entry}/properties/{field}"} for field in fields if field not in OWN}
        schema["properties"][name] |= {"additionalProperties": False, "properties": {**shared, METRICS: metrics}}
    return schema


def _optional(definitions: dict[str, Any], reference: str) -> dict[str, Any]:
    """The fields of a definition, with none required any more, at any depth."""
    definition = definitions[reference.removeprefix("#/$defs/")]
    definition.pop("required", None)
    for field in definition["properties"].values():
        if "default" in field and "anyOf" not in field:
            kind = {key: field.pop(key) for key in list(field) if key not in ("default", "description", "title")}
            field["anyOf"] = [kind, {"type": "null"}]
            if inner := kind.get("additionalProperties", {}).get("$ref"):
                kind["additionalProperties"] = {"anyOf": [{"$ref": inner}, {"type": "null"}]}
                _optional(definitions, inner)
    return dict(definition["properties"])


def _common(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shared: dict[str, Any] = {}
    for field in sorted({field for entry in entries for field in entry} - set(OWN)):
        values = [entry.get(field) for entry in entries]
        if any(isinstance(value, dict) for value in values):
            if common := _common([value or {} for value in values]):
                shared[field] = common
            continue
        value, count = Counter(values).most_common(1)[0]
        if value is not None and 2 * count > len(entries):
            shared[field] = value
    return shared


def _own(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The fields to add to the shared ones to get the entry."""
    own: dict[str, Any] = {}
    for field in sorted({*entry, *shared}):
        value, common = entry.get(field), shared.get(field)
        if value != common:
            own[field] = _own(value, common) if isinstance(value, dict) and isinstance(common, dict) else value
    return own


def _merge(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The complete entry, in the order of a file that shares nothing."""
    entry = dict(shared)
    for field, value in own.items():
        common = shared.get(field)
        entry[field] = _merge(common, value) if isinstance(common, dict) and isinstance(value, dict) else value
    return {field: entry[field] for field in sorted(entry) if entry[field] is not None or field not in shared}
