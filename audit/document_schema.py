"""What may stand in a document? Its JSON Schema, made of the models: for editors, and for whoever writes documents.

It says what a field can be. Whether a rule runs, a name exists or somebody may do it, only an import can tell.
"""

from __future__ import annotations

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.fields import NOT_PROVIDED

from audit.entries import STATE, STATES
from audit.exports import FORMAT, exchanged_models
from audit.governed import GovernedModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def write_schema() -> dict[str, Any]:
    """The JSON Schema of configuration documents. The same on every host, and free of anything that is stored."""
    sections = {
        model.section: {
            "type": "array",
            "description": f"{model._meta.verbose_name_plural.capitalize()}. What is not mentioned stays.",
            "items": {"$ref": f"#/$defs/{model.entity_type}"},
        }
        for model in exchanged_models()
    }
    return {
        "$schema": DIALECT,
        "$id": "urn:code-review-governance:configuration:1",
        "title": "Configuration of code reviews",
        "description": "Read by import_config and written by export_config.",
        "type": "object",
        "required": ["format"],
        "additionalProperties": False,
        "properties": {
            "$schema": {"type": "string", "description": "Address of this schema, for editors."},
            "format": {"const": FORMAT},
            "title": {"type": "string"},
            "description": {"type": "string"},
            **sections,
        },
        "$defs": {model.entity_type: _describe_entry(model) for model in exchanged_models()},
    }


def _describe_entry(model: type[GovernedModel]) -> dict[str, Any]:
    state = {
        "enum": list(STATES),
        "default": STATES[0],
        "description": "present: made so. created: made if it is missing, and else left alone. absent: deleted.",
    }
    fields = {name: _describe_field(model._meta.get_field(name)) for name in model.exchange_fields}
    return {
        "type": "object",
        "required": list(model.natural_key_fields),
        "additionalProperties": False,
        "properties": {**fields, STATE: state},
    }


def _describe_field(field: models.Field) -> dict[str, Any]:
    if field.is_relation:
        kind = field.related_model._meta.verbose_name
        described: dict[str, Any] = {"type": "string", "description": f"Name of the {kind}."}
    else:
        described = _describe_value(field)
    if field.help_text and "description" not in described:
        described["description"] = str(field.help_text)
    if field.null:
        described["type"] = [described["type"], "null"]
    if field.default is not NOT_PROVIDED and not callable(field.default) and not field.is_relation:
        described["default"] = float(field.default) if isinstance(field, models.DecimalField) else field.default
    return described


def _describe_value(field: models.Field) -> dict[str, Any]:
    if isinstance(field, models.BooleanField):
        return {"type": "boolean"}
    if isinstance(field, models.DecimalField):
        return {"type": "number", **_describe_bounds(field)}
    if isinstance(field, models.IntegerField):
        return {"type": "integer", **_describe_bounds(field)}
    if isinstance(field, models.JSONField):
        return _describe_default(field.default() if callable(field.default) else {})
    described: dict[str, Any] = {"type": "string"}
    if field.choices:
        described["enum"] = [value for value, _ in field.choices]
        return described
    if field.max_length is not None:
        described["maxLength"] = field.max_length
    for validator in field.validators:
        if isinstance(validator, RegexValidator):
            described["pattern"] = validator.regex.pattern.replace(r"\Z", "$")
    return described


def _describe_bounds(field: models.Field) -> dict[str, Any]:
    names = {MinValueValidator: "minimum", MaxValueValidator: "maximum"}
    limits = field._validators  # the model's own; `validators` adds what one of the databases can store
    return {names[type(validator)]: validator.limit_value for validator in limits if type(validator) in names}


def _describe_default(default: Any) -> dict[str, Any]:
    """The shape of a structured field: that of its default, which is empty but complete."""
    if isinstance(default, list):
        return {"type": "array", "items": {"type": "string"}}
    parts = {name: {"type": "array"} for name, value in default.items() if isinstance(value, list)}
    return {"type": "object", "properties": parts, "additionalProperties": False} if parts else {"type": "object"}
