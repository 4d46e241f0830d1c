"""The published JSON Schema of the declared file, made from its shape.

`python -m isthmus.declare.schema > schema.json` beside this module writes it anew; a test compares the two.
Source: JSON Schema draft 2020-12.
"""

from __future__ import annotations

import json
import sys

from pydantic.json_schema import GenerateJsonSchema

from isthmus.declare.shapes import ENDS, FileShape

__all__ = ["render"]


def render() -> str:
    """Return schema.json's text: equal shapes give equal text."""
    made = FileShape.model_json_schema(by_alias=True)
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": "isthmus declaration"}
    return json.dumps(head | {key: _tidy(part) for key, part in made.items() if key != "title"}, indent=2) + "\n"


def _tidy(node: object) -> object:
    """Drop what pydantic says of None and in titles: the file has no null, and a title repeats the key.

    What `ends` may be is put in, and a key that is no name is ruled out, which pydantic leaves open.
    """
    if isinstance(node, list):
        return [_tidy(one) for one in node]
    if not isinstance(node, dict):
        return node
    if ENDS in node:
        return {"$ref": "#/$defs/LinkShape/properties/ends"}
    kept = {key: _tidy(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    if kept.get("default", 0) is None:
        del kept["default"]
    choices = kept.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [one for one in choices if one != {"type": "null"}]
        kept = {key: value for key, value in kept.items() if key != "anyOf"}
        kept = {**rest[0], **kept} if len(rest) == 1 else {"anyOf": rest, **kept}
    return kept


if __name__ == "__main__":
    sys.stdout.write(render())
