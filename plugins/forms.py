"""How is a configuration typed in? As a form drawn from its JSON Schema, or as JSON where a schema cannot be drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.forms.fields import InvalidJSONInput
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from django_jsonform.widgets import JSONFormWidget

from audit.encryption import is_shown
from plugins import masking, schemas

LONG_TEXT = 200  # characters that a text may have, from which on it gets several lines
KEPT = "Never shown. Left empty, what is stored stays; as JSON, null removes it."
EMPTY: tuple[Any, ...] = ("", None, [], {})
_KINDS = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
_UNDRAWABLE = ("$ref", "allOf", "anyOf", "oneOf", "not", "if", "patternProperties", "prefixItems", "const")


def draw(schema: Mapping[str, Any], *, name: str = "", required: bool = True) -> dict[str, Any] | None:
    """The schema in the words of the form widget, or None if the widget cannot show all that it allows."""
    kind = schema.get("type")
    if kind not in _KINDS or any(word in schema for word in _UNDRAWABLE):
        return None
    drawn: dict[str, Any] = {"type": kind, "title": schema.get("title") or name.replace("_", " ").capitalize()}
    if schema.get("description"):
        drawn["description" if kind in ("object", "array") else "help_text"] = schema["description"]
    if "default" in schema:
        drawn["default"] = schema["default"]
    if "enum" in schema:
        drawn["choices"] = list(schema["enum"])
    if kind == "object":
        return _draw_object(schema, drawn)
    if kind == "array":
        items = draw(schema.get("items", {}), required=True)
        return None if items is None else {**drawn, "items": items}
    if required and kind != "boolean":
        drawn["required"] = True
    if kind == "string":
        if "choices" not in drawn and schema.get("maxLength", 0) > LONG_TEXT or schema.get("widget") == "textarea":
            drawn["widget"] = "textarea"
        if schema.get("secret") is True:
            drawn.pop("required", None)
            drawn["format"] = "password"
            drawn["help_text"] = f"{drawn.get('help_text', '')} {KEPT}".strip()
    return drawn


def _draw_object(schema: Mapping[str, Any], drawn: dict[str, Any]) -> dict[str, Any] | None:
    if schema.get("additionalProperties", True) is not False:
        return None
    needed = schema.get("required", ())
    parts = {
        name: draw(part, name=name, required=name in needed) if isinstance(part, Mapping) else None
        for name, part in schema.get("properties", {}).items()
        # `"drawn": false` marks what is written as JSON only; `fits` refuses the form to a value that has that part.
        if name in needed or not isinstance(part, Mapping) or part.get("drawn") is not False
    }
    return None if None in parts.values() else {**drawn, "properties": parts, "additionalProperties": False}


def fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a drawn form can show `value` without losing any of it."""
    kind = schema["type"]
    if not isinstance(value, _KINDS[kind]) or isinstance(value, bool) and kind != "boolean":
        return False
    if kind == "object":
        parts = schema["properties"]
        return all(name in parts and fits(parts[name], item) for name, item in value.items())
    return kind != "array" or all(fits(schema["items"], item) for item in value)


def prune(schema: Mapping[str, Any], value: Any, initial: Any) -> Any:
    """`value` without what the widget has filled in by itself: optional entries left at their default or empty."""
    if not isinstance(value, dict):
        return value
    before = initial if isinstance(initial, dict) else {}
    needed, parts = schema.get("required", ()), schema.get("properties", {})
    pruned = {}
    for name, item in value.items():
        part = parts.get(name, {})
        if part.get("type") == "object":
            item = prune(part, item, before.get(name))
        untouched = name in before and before[name] == item and type(before[name]) is type(item)
        removed = item is None and part.get("secret") is True
        if untouched or removed or name in needed or (item not in EMPTY and item != part.get("default", False)):
            pruned[name] = item
    return pruned


def leave_out_shown(value: Any) -> Any:
    """`value` without the secrets that are shown as set: their boxes are empty. In lists they stay, undrawable."""
    if not isinstance(value, dict):
        return value
    return {name: leave_out_shown(item) for name, item in value.items() if not is_shown(item)}


class ConfigurationWidget(JSONFormWidget):
    """The drawn form, or a text area with JSON where the form could not show everything."""

    def __init__(self, schema: Mapping[str, Any] | None = None, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(schema=schema or {}, attrs=attrs)

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        context = {"name": name, "id": (attrs or {}).get("id", f"id_{name}"), "value": _indent(value)}
        value = _leave_out_shown(value)
        if not self._can_draw(value):
            return mark_safe(render_to_string("admin/plugins/json_field.html", context))  # noqa: S308, a template
        context["form"] = super().render(name, value, attrs, renderer)
        return mark_safe(render_to_string("admin/plugins/drawn_field.html", context))  # noqa: S308, a template

    def _can_draw(self, value: Any) -> bool:
        if isinstance(value, InvalidJSONInput) or not self.schema:
            return False
        try:
            return fits(self.schema, json.loads(value))
        except (TypeError, ValueError):
            return False

    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(js=["plugins/configuration.js"])


def _leave_out_shown(value: Any) -> Any:
    try:
        return json.dumps(leave_out_shown(json.loads(value)))
    except (TypeError, ValueError):
        return value


def _indent(value: Any) -> str:
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except (TypeError, ValueError):
        return value or ""


def _forget(value: Any) -> Any:
    return value if value is None or is_shown(value) else ""


class ConfigurationField(forms.JSONField):
    """A JSON object with a schema. `use` gives it the schema that its form has chosen."""

    widget = ConfigurationWidget

    def __init__(self, *, schema: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("required", False)
        kwargs.setdefault("initial", dict)
        super().__init__(**kwargs)
        self.schema: Mapping[str, Any] = {}
        self.use(schema or {})

    def use(self, schema: Mapping[str, Any]) -> None:
        """Draw `schema` from now on."""
        self.schema = schema
        self.widget.schema = draw(schema) if schema else {}

    def clean(self, value: Any) -> Any:
        cleaned = super().clean(value)
        return {} if cleaned is None else cleaned

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What a refused form shows again: like a password, a secret has to be typed again."""
        value = super().bound_data(data if data is not None else "null", initial)
        secret = schemas.secret_fields(self.schema)
        if not secret:
            return value
        return initial if isinstance(value, InvalidJSONInput) else masking.replace(value, secret, _forget)

    def mark_error(self, pointer: str, message: str) -> None:
        """Show `message` beside the entry at `pointer` as well."""
        self.widget.add_error({pointer.replace("/", "§"): [message]})

    def name_entry(self, pointer: str) -> str:
        """The entry at `pointer` in the words of the schema: ``match/0`` → ``Must match 1``."""
        schema, words = self.schema, []
        for step in pointer.split("/"):
            if step.isdigit() and schema.get("type") == "array":
                words.append(str(int(step) + 1))
                schema = schema.get("items", {})
            else:
                schema = schema.get("properties", {}).get(step, {})
                words.append(schema.get("title") or step)
        return " ".join(words)


class ConfiguredForm:
    """Mixin of a form with the field `configuration`."""

    def clean_configuration(self) -> Any:
        """What the user wrote, not what the widget filled in."""
        field = self.fields["configuration"]
        written = self.cleaned_data["configuration"]
        pruned = prune(field.schema, written, self.initial.get("configuration"))
        return _drop_empty(pruned, schemas.secret_fields(field.schema))


def _drop_empty(value: Any, secret: list[str]) -> Any:
    """`value` without the boxes of secrets that were left empty."""
    marked = masking.replace(value, secret, lambda item: _EMPTY_BOX if item == "" else item)
    return _drop(marked)


_EMPTY_BOX = object()


def _drop(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _drop(item) for name, item in value.items() if item is not _EMPTY_BOX}
    return [_drop(item) for item in value if item is not _EMPTY_BOX] if isinstance(value, list) else value
