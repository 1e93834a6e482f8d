"""How does a configuration come in over HTTP? Documents planned and applied, their JSON Schema, and presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import Http404, HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.document_schema import write_schema
from audit.exchange import apply
from audit.exports import dump
from audit.listing import (
    COUNT_CAP,
    DEFAULT_LIMIT,
    MAX_KEY,
    MAX_LIMIT,
    SkipLimitPagination,
    check_parameters,
    read_number,
)
from audit.permissions import require, require_holding
from audit.plans import STATUSES
from audit.problems import Entry, Problem, invalid
from audit.serializers import (
    KnownChoiceField,
    ObjectField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
    reason_field,
)
from audit.sources import parse
from audit.viewsets import ApiMixin, ReadViewSet
from governance_config.library import (
    PresetFile,
    compare_presets,
    find_preset,
    list_presets,
    may_delete,
    save_preset,
)
from governance_config.models import Preset
from governance_config.proposals import propose
from overrides.api import EXPORT_CONFIGURATION, IMPORT_CONFIGURATION
from overrides.override_api import MomentField

SCHEMA_TYPE = "application/schema+json"


@extend_schema_field({"type": ["object", "string"]})
class DocumentField(serializers.Field):
    """A document as a JSON object, or as the text of a YAML or JSON file: then what is wrong has a line."""

    def to_internal_value(self, data: Any) -> Mapping[str, Any]:
        if isinstance(data, str):
            return parse(data)
        if not isinstance(data, dict):
            raise serializers.ValidationError("This must be an object, or the text of a document.", "invalid")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class ApplySerializer(StrictSerializer):
    """Why, and since which plan."""

    planned_at = StrictIntegerField(
        min_value=0,
        max_value=MAX_KEY,
        required=False,
        help_text="The `revision` of the plan that was read: 409 if the configuration has moved since.",
    )
    change_reason = reason_field()


class ProposeSerializer(ApplySerializer):
    """How a document comes in, and until when what is only asked for is wanted."""

    expires_at = MomentField(
        required=False, help_text="When the requested overrides end; with `mode: propose`, which needs a reason too."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "expires_at" in attrs and attrs.get("mode") != "propose":
            raise serializers.ValidationError({"expires_at": "Only `mode: propose` asks for something that ends."})
        return super().validate(attrs)


class ImportSerializer(ProposeSerializer):
    """A document, to be planned or applied."""

    document = DocumentField(help_text="As `export` gives it. As text, problems are told with their lines.")
    mode = KnownChoiceField(
        choices=["plan", "apply", "propose"], help_text="`propose` files what takes an approved override as requests."
    )


class ApplyPresetSerializer(ProposeSerializer):
    """Why, since which plan, and whether what takes an approved override is filed as requests."""

    mode = KnownChoiceField(choices=["apply", "propose"], required=False, help_text="Default: apply.")


class FieldMoveSerializer(serializers.Serializer):
    """A field's present and coming value; secrets are masked."""

    old = serializers.JSONField()
    new = serializers.JSONField()


class ImportStepSerializer(serializers.Serializer):
    """What happens to one entry; unchanged ones are only counted."""

    section = serializers.CharField()
    name = serializers.CharField()
    pointer = serializers.CharField(help_text="JSON pointer of the entry in the document.")
    status = serializers.ChoiceField(choices=[status for status in STATUSES if status != "unchanged"])
    fields = serializers.DictField(child=FieldMoveSerializer())
    problems = serializers.ListField(child=serializers.CharField(), help_text="Why it is refused.")
    line = serializers.IntegerField(allow_null=True, help_text="Of the first problem, in a document sent as text.")
    needs_override = serializers.BooleanField(help_text="Whether an approved override is all that it lacks.")
    override = serializers.IntegerField(allow_null=True, help_text="Of a proposed entry: the id of its request.")


class DocumentProblemSerializer(serializers.Serializer):
    """What is wrong at one place of the document."""

    pointer = serializers.CharField()
    name = serializers.CharField()
    line = serializers.IntegerField(allow_null=True)
    detail = serializers.CharField()


class ImportPlanSerializer(serializers.Serializer):
    """What applying a document does, or has done. A plan with problems cannot be applied."""

    revision = serializers.IntegerField(help_text="Where the journal stands: of a plan, for `planned_at`.")
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="Status → number of entries.")
    steps = ImportStepSerializer(many=True)
    implied = serializers.ListField(child=serializers.CharField(), help_text="Changes that no entry asks for.")
    warnings = serializers.ListField(child=serializers.CharField())
    problems = DocumentProblemSerializer(many=True)


def bring_in(request: Request, document: Mapping[str, Any], asked: Mapping[str, Any], *, mode: str) -> Response:
    """Plan, apply or propose `document`: the plan, with the revision that was reached if it was carried out."""
    reason, seen = asked.get("change_reason", ""), asked.get("planned_at")
    if mode == "propose":
        plan = propose(document, user=request.user, reason=reason, expires_at=asked.get("expires_at"), seen=seen)
    else:
        plan = apply(document, user=request.user, reason=reason, dry_run=mode == "plan", seen=seen)
    return Response(plan.document(), headers={} if mode == "plan" else {"X-Revision": str(plan.revision)})


class ImportView(ApiMixin, APIView):
    """A configuration from a document."""

    http_method_names = ["post"]
    rate_scope = "bulk"

    @extend_schema(request=ImportSerializer, responses=ImportPlanSerializer)
    def post(self, request: Request) -> Response:
        """Make the configuration what a document says, all or nothing; `mode: plan` only tells what that would do.

        What the document does not mention stays. You need the right to each change that it makes. Applying is refused
        with `errors` for each problem (at most 200); planning answers 200 and tells them. With `mode: propose`, what
        takes an approved override is filed as requests, and the rest is applied.
        """
        require_holding(request.user, IMPORT_CONFIGURATION)
        body = ImportSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        return bring_in(request, asked["document"], asked, mode=asked["mode"])


class ExportSchemaView(ApiMixin, APIView):
    """The JSON Schema of documents."""

    http_method_names = ["get", "head"]

    @extend_schema(responses={(200, SCHEMA_TYPE): {"type": "object"}})
    def get(self, request: Request) -> HttpResponse:
        """What may stand in a document, for editors: save it beside the document as `configuration.schema.json`."""
        return HttpResponse(dump(write_schema(), "json"), content_type=SCHEMA_TYPE)


class PresetSerializer(serializers.Serializer):
    """A configuration to start from: one of the release, or one that somebody saved."""

    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    shipped = serializers.BooleanField(help_text="Whether it comes with the release.")
    created_by = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField(allow_null=True)


class PresetDetailSerializer(PresetSerializer):
    """A preset with what it says."""

    counts = serializers.DictField(child=serializers.IntegerField(), help_text="Section → number of entries.")
    document = ObjectField()


class NewPresetSerializer(StrictSerializer):
    """How the present configuration is called from now on."""

    name = StrictCharField(max_length=100, help_text="Lower-case letters, digits, hyphens and underscores.")
    title = StrictCharField(max_length=200, required=False, allow_blank=True)
    description = StrictCharField(max_length=2000, required=False, allow_blank=True)


class PresetStepSerializer(serializers.Serializer):
    """An entry that differs: created is in the other one alone, deleted in this one alone."""

    section = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=["created", "updated", "deleted"])
    fields = serializers.DictField(child=FieldMoveSerializer())


class PresetComparisonSerializer(serializers.Serializer):
    """How another preset differs from this one."""

    steps = PresetStepSerializer(many=True)


class PresetPagination(SkipLimitPagination):
    """Pages of a short list that is no query."""

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("skip", "limit")

    def paginate_queryset(self, queryset: list[Any], request: Request, view: APIView) -> list[Any]:
        self.request, self.by_cursor, self.capped = request, False, False
        self.limit = read_number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        self.skip = read_number(request, "skip", 0, 0, COUNT_CAP)
        self.count, self.more = len(queryset), len(queryset) > self.skip + self.limit
        return queryset[self.skip : self.skip + self.limit]

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        described = super().get_schema_operation_parameters(view)
        return [each for each in described if each["name"] in self.parameters]


class PresetViewSet(ReadViewSet):
    """Presets: kept configurations, planned and applied like any document."""

    http_method_names = ["get", "post", "delete", "head"]
    queryset = Preset.objects.all()
    serializer_class = PresetSerializer
    pagination_class = PresetPagination
    filter_backends: ClassVar[list[Any]] = []
    lookup_field = "name"
    lookup_url_kwarg = "name"
    lookup_value_regex = "[a-z0-9][a-z0-9_-]{0,99}"
    conflicts = ("create", "plan", "apply")

    @property
    def query_parameters(self) -> Mapping[str, list[str]]:
        names = ["with"] if self.action == "compare" else []
        return {"get": names, "head": names, "delete": ["change_reason"]}

    def find(self, name: str) -> PresetFile:
        """The preset of that name, for somebody who may see presets."""
        self.require_reading()
        preset = find_preset(name)
        if preset is None:
            raise Http404
        return preset

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """All presets; those of the release come first."""
        self.require_reading()
        check_parameters(request, self.paginator.parameters)
        page = self.paginate_queryset(list_presets())
        return self.get_paginated_response(PresetSerializer(page, many=True).data)

    @extend_schema(responses=PresetDetailSerializer)
    def retrieve(self, request: Request, name: str) -> Response:
        """One preset with its document."""
        return Response(PresetDetailSerializer(self.find(name)).data)

    @extend_schema(request=NewPresetSerializer, responses={201: PresetDetailSerializer})
    def create(self, request: Request) -> Response:
        """Save what you may see of the present configuration as a preset; it is never changed afterwards."""
        require(request.user, "add", Preset)
        require_holding(request.user, EXPORT_CONFIGURATION)
        body = NewPresetSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = {"title": "", "description": "", **body.validated_data}
        preset = save_preset(user=request.user, **given)
        headers = {"Location": f"{request.path}/{preset.name}"}
        return Response(PresetDetailSerializer(preset).data, status=201, headers=headers)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, name: str) -> Response:
        """Delete a preset that you have saved. Those of the release stay."""
        preset = self.find(name)
        if not may_delete(request.user, preset):
            what = "comes with the release" if preset.shipped else f"was saved by {preset.created_by}"
            raise Problem("forbidden", f"You may not delete {name}: it {what}.")
        Preset.objects.filter(name=name).delete()
        return Response(status=204)

    @extend_schema(
        responses=PresetComparisonSerializer,
        parameters=[OpenApiParameter("with", str, required=True, description="Name of the other preset.")],
    )
    @action(detail=True, methods=["get"])
    def compare(self, request: Request, name: str) -> Response:
        """How the preset `with` differs from this one. To compare with the configuration, plan it."""
        preset = self.find(name)
        other = find_preset(request.query_params.get("with", ""))
        if other is None:
            raise invalid(Entry("/with", "Give the name of another preset.", "does_not_exist"))
        return Response({"steps": PresetStepSerializer(compare_steps(preset, other), many=True).data})

    @extend_schema(request=None, responses=ImportPlanSerializer)
    @action(detail=True, methods=["post"], rate_scope="bulk")
    def plan(self, request: Request, name: str) -> Response:
        """What applying the preset would change. Nothing is written."""
        return self._bring_in(request, name, ApplySerializer, "plan")

    @extend_schema(request=ApplyPresetSerializer, responses=ImportPlanSerializer)
    @action(detail=True, methods=["post"], rate_scope="bulk")
    def apply(self, request: Request, name: str) -> Response:
        """Make the configuration what the preset says, all or nothing, like an import."""
        return self._bring_in(request, name, ApplyPresetSerializer, "apply")

    def _bring_in(self, request: Request, name: str, kind: type[StrictSerializer], mode: str) -> Response:
        preset = self.find(name)
        require_holding(request.user, IMPORT_CONFIGURATION)
        body = kind(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        return bring_in(request, preset.document, asked, mode=asked.get("mode", mode))


def compare_steps(preset: PresetFile, other: PresetFile) -> list[dict[str, Any]]:
    """The differences as plain values."""
    return [step.document() for step in compare_presets(preset, other)]
