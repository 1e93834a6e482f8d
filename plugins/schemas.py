"""Does a configuration satisfy its schema, and which of its fields are secret?

Schemas are JSON Schema 2020-12. Nothing is ever fetched for a `$ref`, and `pattern` runs in linear time. A property may
carry the annotation ``"secret": true``: its value is encrypted in the database, and masked wherever it would be shown
or journalled.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs

_UNREADABLE = (TypeError, ValueError, RecursionError)

_BRANCHES = ("allOf", "anyOf", "oneOf")
MAX_KNOWN = 1000
# Asked for every object that is journalled. By identity: a schema is as large as it likes, and its class keeps it.
_secret_fields: dict[int, tuple[Mapping[str, Any], tuple[str, ...]]] = {}
# Stands in messages where the library would quote the value, which may be a secret.
_MASK = "The value"


def errors(schema: Mapping[str, Any], document: Any) -> list[tuple[str, str]]:
    """What is wrong with `document`: JSON pointers into it ("" is the whole) and messages that never quote a value."""
    try:
        found = list(_validator(_key(schema)).iter_errors(document))
    except _UNREADABLE as error:
        return [("", f"The configuration cannot be read as JSON: {error}")]
    return [entry for error in found for entry in _entries(error)]


def check_schema(schema: Any) -> list[tuple[str, str]]:
    """What is wrong with `schema` itself: JSON pointers into it and messages; an empty list if it can be used."""
    if not isinstance(schema, Mapping):
        return [("", "A schema must be an object.")]
    try:
        _validator(_key(schema))
    except jsonschema_rs.ValidationError as error:
        return [(pointer(error.instance_path), error.message)]
    except (jsonschema_rs.ReferencingError, *_UNREADABLE) as error:
        return [("", str(error))]
    return []


def secret_fields(schema: Mapping[str, Any]) -> list[str]:
    """JSON pointers of the fields marked ``"secret": true``; `*` stands for any index or any other name."""
    known = _secret_fields.get(id(schema))
    if known is None or known[0] is not schema:
        if len(_secret_fields) >= MAX_KNOWN:
            _secret_fields.clear()
        known = (schema, tuple(sorted(set(_secrets(schema, schema, (), frozenset())))))
        _secret_fields[id(schema)] = known
    return list(known[1])


def with_defaults(schema: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """`document` completed by the defaults that `schema` gives for its own properties, and for those of its objects."""
    completed = dict(document)
    for name, part in schema.get("properties", {}).items():
        if not isinstance(part, Mapping):
            continue
        if name not in completed and "default" in part:
            completed[name] = copy.deepcopy(part["default"])
        if isinstance(completed.get(name), Mapping) and "properties" in part:
            completed[name] = with_defaults(part, completed[name])
    return completed


def pointer(path: Any) -> str:
    """The JSON pointer (RFC 6901) of a path of names and indexes."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _key(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True, default=dict)


@lru_cache(maxsize=512)
def _validator(key: str) -> Any:
    schema = json.loads(key)
    jsonschema_rs.meta.validate(schema)
    return jsonschema_rs.Draft202012Validator(
        schema,
        retriever=_refuse,
        pattern_options=jsonschema_rs.RegexOptions(),
        validate_formats=True,
        mask=_MASK,
    )


def _refuse(uri: str) -> Any:
    raise ValueError(f"a schema may not refer to another document ({uri})")


def _entries(error: Any) -> Iterator[tuple[str, str]]:
    """One error may concern several fields: name each, so that a form can show it where it belongs."""
    kind = error.kind.as_dict()
    path = list(error.instance_path)
    if error.kind.name == "required":
        yield pointer([*path, kind["property"]]), "This field is required."
    elif error.kind.name in ("additionalProperties", "unevaluatedProperties"):
        for name in kind["unexpected"]:
            yield pointer([*path, name]), "This field is not known."
    else:
        yield pointer(path), error.message


def _secrets(root: Mapping[str, Any], schema: Any, path: tuple[str, ...], seen: frozenset[str]) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    if schema.get("secret") is True:
        yield pointer(path)
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/") and reference not in seen:
        yield from _secrets(root, _resolve(root, reference), path, seen | {reference})
    for name, part in schema.get("properties", {}).items():
        yield from _secrets(root, part, (*path, name), seen)
    for part in schema.get("patternProperties", {}).values():
        yield from _secrets(root, part, (*path, "*"), seen)
    for keyword in ("items", "additionalProperties"):
        yield from _secrets(root, schema.get(keyword), (*path, "*"), seen)
    for index, part in enumerate(schema.get("prefixItems", ())):
        yield from _secrets(root, part, (*path, str(index)), seen)
    for keyword in _BRANCHES:
        for part in schema.get(keyword, ()):
            yield from _secrets(root, part, path, seen)
    for keyword in ("if", "then", "else"):
        yield from _secrets(root, schema.get(keyword), path, seen)


def _resolve(root: Mapping[str, Any], reference: str) -> Any:
    part: Any = root
    for step in reference[2:].split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(part, Mapping):
            part = part.get(step)
        elif isinstance(part, list) and step.isdigit() and int(step) < len(part):
            part = part[int(step)]
        else:
            return None
    return part
