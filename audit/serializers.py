"""What does a client send and get? Serializers that take JSON at its word: no coercion, no unknown fields."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, NoReturn

from django.db import models
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.validators import UniqueValidator

from audit import encryption
from audit.changes import MAX_REASON
from audit.problems import MAX_ERRORS


class StrictBooleanField(serializers.BooleanField):
    """true or false; not "yes", not 1."""

    def to_internal_value(self, data: Any) -> bool:
        if data is not True and data is not False:
            self.fail("invalid", input=data)
        return data


class StrictCharField(serializers.CharField):
    """Text as it was sent, spaces included; not a number."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class StrictIntegerField(serializers.IntegerField):
    """A whole number; not text, not true."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictDecimalField(serializers.DecimalField):
    """A number with few digits; not text, not true."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, int | float) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class KnownChoiceField(serializers.ChoiceField):
    """One of some values; the refusal says which they are."""

    default_error_messages = {"invalid_choice": "{input} is not known. Known: {known}."}

    def fail(self, key: str, **kwargs: Any) -> NoReturn:
        if key == "invalid_choice":
            kwargs = {"input": repr(kwargs["input"])[:100], "known": ", ".join(map(str, self.choices))}
        super().fail(key, **kwargs)


class ObjectField(serializers.DictField):
    """A JSON object whose content is checked elsewhere; what is encrypted in it is shown as `{"set": true}`."""

    def to_representation(self, value: Any) -> Any:
        return encryption.hide(super().to_representation(value))


class StrictMixin:
    """Unknown fields are refused, so that a misspelt one is not lost without a word."""

    def to_internal_value(self, data: Any) -> Any:
        problems: dict[str, Any] = {}
        if isinstance(data, Mapping):
            known = ", ".join(name for name, field in self.fields.items() if not field.read_only)
            problems = {
                str(name): [ErrorDetail(f"There is no field {name!r}. Fields: {known}.", "unknown")]
                for name in islice((name for name in data if name not in self.fields), MAX_ERRORS)
            }
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if not problems or not isinstance(error.detail, dict):
                raise
            raise serializers.ValidationError({**problems, **error.detail}) from error
        if problems:
            raise serializers.ValidationError(problems)
        return value


class StrictSerializer(StrictMixin, serializers.Serializer):
    """A serializer without a model."""


def reason_field() -> StrictCharField:
    """The reason for a change, as any body may carry it."""
    return StrictCharField(
        write_only=True,
        required=False,
        allow_blank=True,
        max_length=MAX_REASON,
        help_text="Why this is changed; it stands in the journal. The header `X-Change-Reason` does the same.",
    )


class ReasonSerializer(StrictSerializer):
    """A body that says nothing but why."""

    change_reason = reason_field()


class PermissionsSerializer(serializers.ModelSerializer):
    """Base of what only reads, and tells with `?permissions=true` what the caller may do."""

    permissions = serializers.SerializerMethodField(
        help_text="What you may do with this object; with `?permissions=true` only."
    )

    def get_permissions(self, item: models.Model) -> list[str]:
        return self.context.get("permissions", {}).get(item.pk, [])

    def to_representation(self, instance: models.Model) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if "permissions" not in self.context:
            shown.pop("permissions", None)
        return shown


class GovernedSerializer(StrictMixin, serializers.ModelSerializer):
    """Base of the governed models' serializers.

    The model validates the content (`full_clean`), so that every door says the same; here are types and shapes. What
    only reads is accepted and ignored, so that what was read can be sent back.
    """

    change_reason = reason_field()
    permissions = serializers.SerializerMethodField(
        help_text="What you may do with this object; with `?permissions=true` only."
    )
    warnings = serializers.SerializerMethodField(
        help_text="What a change was warned of; in the answer to a change, if there is anything."
    )

    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.BooleanField: StrictBooleanField,
        models.CharField: StrictCharField,
        models.TextField: StrictCharField,
        models.DecimalField: StrictDecimalField,
    }
    serializer_choice_field = KnownChoiceField
    bookkeeping = ("version", "created_at", "updated_at")
    extra = ("permissions", "warnings", "change_reason")

    def build_standard_field(self, field_name: str, model_field: models.Field) -> Any:
        field_class, kwargs = super().build_standard_field(field_name, model_field)
        if isinstance(model_field, models.JSONField):
            field_class, kwargs = ObjectField, {k: v for k, v in kwargs.items() if k in ("required", "help_text")}
        # Whether a value is taken is asked by the model, with everything else.
        kwargs["validators"] = [
            validator for validator in kwargs.get("validators", []) if not isinstance(validator, UniqueValidator)
        ]
        if not kwargs["validators"]:
            del kwargs["validators"]
        return field_class, kwargs

    def get_validators(self) -> list[Any]:
        return []

    def get_permissions(self, item: models.Model) -> list[str]:
        return self.context.get("permissions", {}).get(item.pk, [])

    def get_warnings(self, item: models.Model) -> list[str]:
        return self.context.get("warnings", [])

    def to_representation(self, instance: models.Model) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if "permissions" not in self.context:
            shown.pop("permissions", None)
        if not self.context.get("warnings"):
            shown.pop("warnings", None)
        return shown
