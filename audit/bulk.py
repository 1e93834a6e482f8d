"""How are many objects changed at once over HTTP? All or nothing, with as many queries for 1,000 as for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit.changes import change_set
from audit.errors import InvalidEntries
from audit.governed import merge_errors, save_all
from audit.permissions import CHANGE, object_permissions
from audit.problems import Entry, Problem, flatten, invalid, list_entries
from audit.serializers import StrictSerializer, reason_field
from audit.viewsets import apply

MAX_UPDATES = 1_000


class BulkSerializer(StrictSerializer):
    """The envelope of a bulk change; its entries are validated one by one."""

    updates = serializers.ListField(
        child=serializers.DictField(), allow_empty=False, max_length=MAX_UPDATES, help_text="Each with the `id`."
    )
    change_reason = reason_field()


class BulkResultSerializer(serializers.Serializer):
    """What became of one entry."""

    id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["updated", "unchanged"])


class BulkAnswerSerializer(serializers.Serializer):
    """What became of all of them."""

    applied = serializers.IntegerField(help_text="Number of objects that differ now.")
    results = BulkResultSerializer(many=True)
    warnings = serializers.ListField(child=serializers.CharField(), required=False)


class BulkMixin:
    """`POST …/bulk` for a `GovernedViewSet`.

    `bulk_serializer_class` reads an entry: `id`, perhaps `version`, and fields of the model to change.
    """

    bulk_serializer_class: ClassVar[type[serializers.Serializer]]

    def bulk(self, request: Request) -> Response:
        envelope = BulkSerializer(data=request.data)
        envelope.is_valid(raise_exception=True)
        updates = envelope.validated_data["updates"]
        keys, values = self.read_updates(updates)
        seen = self.find_seen(keys)
        self.require_all(seen.values())
        self.check_updates([apply(seen[key["id"]], change) for key, change in zip(keys, values, strict=True)])
        with change_set(reason=envelope.validated_data.get("change_reason", "")) as changes:
            stored = {item.pk: item for item in self.model._base_manager.filter(pk__in=list(seen))}
            self.check_versions(keys, stored)
            items = [apply(stored[key["id"]], change) for key, change in zip(keys, values, strict=True)]
            try:
                differing = {item.pk for item in save_all(items)}
            except InvalidEntries as error:
                raise self.refuse(error.errors) from error
        body: dict[str, Any] = {
            "applied": len(differing),
            "results": [
                {"id": item.pk, "status": "updated" if item.pk in differing else "unchanged"} for item in items
            ],
        }
        if changes.warnings:
            body["warnings"] = changes.warnings
        return Response(body, headers={"X-Revision": str(changes.revision)})

    def read_updates(self, updates: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, int]], list[dict[str, Any]]]:
        """Keys and fields of the entries, in types that fit. Raises a problem that names every bad place."""
        keys, values, problems = [], [], []
        first: dict[int, int] = {}
        # One for all entries: building its fields costs more than reading an entry.
        reader = self.bulk_serializer_class(context=self.get_serializer_context())
        for index, entry in enumerate(updates):
            pointer = f"/updates/{index}"
            try:
                value = dict(reader.run_validation(entry))
            except serializers.ValidationError as error:
                problems += flatten(error.detail, pointer)
                continue
            key = {name: value.pop(name) for name in ("id", "version") if name in value}
            keys.append(key)
            values.append(value)
            number = first.setdefault(key["id"], index)
            if number != index:
                problems.append(Entry(f"{pointer}/id", f"Entry {number} changes the same object.", "duplicate"))
        if problems:
            raise invalid(*problems)
        return keys, values

    def find_seen(self, keys: Sequence[Mapping[str, int]]) -> dict[int, Any]:
        """The objects that the caller may see, by key. An unknown one is a mistake of its entry."""
        found = {item.pk: item for item in self.readable().filter(pk__in=[key["id"] for key in keys])}
        missing = [
            Entry(f"/updates/{index}/id", f"There is no {self.model._meta.verbose_name} {key['id']}.", "does_not_exist")
            for index, key in enumerate(keys)
            if key["id"] not in found
        ]
        if missing:
            raise invalid(*missing)
        return {key["id"]: found[key["id"]] for key in keys}

    def require_all(self, items: Any) -> None:
        """Refuse, naming them, if the caller may not change some of the objects."""
        items = list(items)
        allowed = object_permissions(self.request.user, items, (CHANGE,))
        refused = [
            Entry(f"/updates/{index}", f"You may not change {item}.", "forbidden")
            for index, item in enumerate(items)
            if CHANGE not in allowed[item.pk]
        ]
        if refused:
            raise Problem("forbidden", f"You may not change {len(refused)} of these.", errors=refused)

    def check_updates(self, items: Sequence[Any]) -> None:
        """Validate what costs time before the lock is taken; the kernel asks everything once more under it."""
        relations = {field.name for field in self.model._meta.concrete_fields if field.is_relation}
        problems: dict[int, ValidationError] = {}
        for index, item in enumerate(items):
            errors = []
            for step in (lambda item=item: item.clean_fields(exclude=relations), item.clean):
                try:
                    step()
                except ValidationError as error:
                    errors.append(error)
            if errors:
                problems[index] = merge_errors(errors)
        if problems:
            raise self.refuse(problems)

    def check_versions(self, keys: Sequence[Mapping[str, int]], stored: Mapping[int, Any]) -> None:
        """Refuse, naming them, if objects were deleted or changed since the caller read them. Under the lock."""
        gone = [
            Entry(f"/updates/{index}/id", f"There is no {self.model._meta.verbose_name} {key['id']}.", "does_not_exist")
            for index, key in enumerate(keys)
            if key["id"] not in stored
        ]
        if gone:
            raise invalid(*gone)
        stale = [
            Entry(
                f"/updates/{index}/version",
                f"You saw version {key['version']} of {stored[key['id']]}; it is at {stored[key['id']].version} now.",
                "stale",
            )
            for index, key in enumerate(keys)
            if "version" in key and key["version"] != stored[key["id"]].version
        ]
        if stale:
            raise Problem("stale", f"{len(stale)} objects were changed since you read them.", errors=stale)

    @staticmethod
    def refuse(problems: Mapping[int, ValidationError]) -> Problem:
        """A 400 that names each bad place of each bad entry."""
        return invalid(
            *(entry for index, error in sorted(problems.items()) for entry in list_entries(error, f"/updates/{index}"))
        )
