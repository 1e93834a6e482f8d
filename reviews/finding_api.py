"""How are findings followed and decided about over HTTP? One for each problem, whatever number of reviews saw it."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db import models
from django.db.models import Count, OuterRef, Q, Subquery
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from audit.bulk import BulkResultSerializer
from audit.listing import MAX_KEY, KnownChoiceFilter, rank
from audit.permissions import VIEW, permitted, require
from audit.problems import Entry, invalid
from audit.serializers import KnownChoiceField, StrictCharField, StrictIntegerField, StrictSerializer
from audit.viewsets import ReadViewSet
from reviews.choices import DISMISSED, Presence, Triage
from reviews.issue_api import IssueWithCodeSerializer, KeyFilter, SeverityFilters
from reviews.models import Codebase, FindingDecision, ReviewSession, TrackedFinding
from reviews.triage import decide
from rules.choices import Severity

MAX_DECIDED = 1_000


class FindingDecisionSerializer(serializers.ModelSerializer):
    """Somebody decided about a finding."""

    class Meta:
        model = FindingDecision
        fields = ("old_triage", "new_triage", "reason", "decided_by", "decided_at")
        read_only_fields = fields


class TrackedFindingSerializer(serializers.ModelSerializer):
    """A problem in a codebase, from the review that saw it first to the one that no longer does."""

    codebase_id = serializers.IntegerField()
    codebase = serializers.CharField(source="codebase.name")
    first_session = serializers.IntegerField(source="first_session_id", allow_null=True)
    last_session = serializers.IntegerField(source="last_session_id", allow_null=True)

    class Meta:
        model = TrackedFinding
        fields = (
            *("id", "key", "codebase", "codebase_id", "rule_name", "rule_type", "severity", "path", "line", "message"),
            *("presence", "suppressed", "triage", "triage_reason", "triaged_by", "triaged_at"),
            *("first_session", "last_session", "first_seen_at", "last_seen_at", "resolved_at"),
        )
        read_only_fields = fields


class FindingWithDecisionsSerializer(TrackedFindingSerializer):
    """A finding with what was decided about it, and the code as it was when a review last saw it."""

    decisions = FindingDecisionSerializer(many=True, help_text="Oldest first.")
    last_issue = serializers.SerializerMethodField(
        help_text="Null if the reviews that saw it are deleted, or their issues not for you to see."
    )

    class Meta(TrackedFindingSerializer.Meta):
        fields = (*TrackedFindingSerializer.Meta.fields, "decisions", "last_issue")
        read_only_fields = fields

    @extend_schema_field(
        {"oneOf": [{"$ref": "#/components/schemas/IssueWithCode"}, {"type": "null"}]}, component_name="IssueWithCode"
    )
    def get_last_issue(self, finding: TrackedFinding) -> Any:
        issues = permitted(self.context["request"].user, VIEW, finding.issues.select_related("finding"))
        issue = issues.order_by("-session_id").first()
        return None if issue is None else IssueWithCodeSerializer(issue).data


class TriageSerializer(StrictSerializer):
    """The same decision about several findings."""

    ids = serializers.ListField(
        child=StrictIntegerField(min_value=1, max_value=MAX_KEY), allow_empty=False, max_length=MAX_DECIDED
    )
    triage = KnownChoiceField(choices=Triage.choices)
    reason = StrictCharField(required=False, allow_blank=True, help_text="Needed to dismiss a finding.")


class TriageAnswerSerializer(serializers.Serializer):
    """What became of all of them."""

    applied = serializers.IntegerField(help_text="Number of findings that are decided about differently now.")
    results = BulkResultSerializer(many=True)


class TrackedFindingFilters(SeverityFilters):
    """What a list of findings can be limited to."""

    codebase = django_filters.CharFilter(field_name="codebase__name", label="Name of a codebase.")
    codebase_id = KeyFilter(field_name="codebase")
    key = django_filters.CharFilter(label="As in SARIF and prompts.")
    presence = KnownChoiceFilter(choices=Presence.choices)
    triage = KnownChoiceFilter(choices=Triage.choices)

    class Meta:
        model = TrackedFinding
        fields: ClassVar[list[Any]] = []


class TrackedFindingViewSet(ReadViewSet):
    """Findings of all codebases."""

    http_method_names = ["get", "post", "head"]
    queryset = TrackedFinding.objects.select_related("codebase")
    filterset_class = TrackedFindingFilters
    search_fields = ("path", "message", "rule_name")
    ordering = ("id",)
    ordering_fields = {
        **{name: name for name in ("id", "path", "rule_name", "first_seen_at", "last_seen_at", "triaged_at")},
        "severity": rank("severity", Severity.values),
    }

    def get_serializer_class(self) -> type[serializers.Serializer]:
        return TrackedFindingSerializer if self.action == "list" else FindingWithDecisionsSerializer

    def get_queryset(self) -> models.QuerySet:
        queryset = super().get_queryset()
        return queryset if self.action == "list" else queryset.prefetch_related("decisions")

    @extend_schema(request=TriageSerializer, responses=TriageAnswerSerializer)
    @action(detail=False, methods=["post"])
    def triage(self, request: Request) -> Response:
        """Decide the same about up to 1,000 findings, or about none of them. No review undoes it."""
        require(request.user, "triage", TrackedFinding)
        body = TriageSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        findings = self._find(asked["ids"])
        decisions = decide(findings, triage=asked["triage"], reason=asked.get("reason", ""), user=request.user)
        changed = {decision.finding_id for decision in decisions}
        results = [{"id": item.pk, "status": "updated" if item.pk in changed else "unchanged"} for item in findings]
        return Response({"applied": len(changed), "results": results})

    def _find(self, keys: list[int]) -> list[TrackedFinding]:
        """The findings in the order of their keys. Raises a problem that names each key that is wrong."""
        found = self.readable().in_bulk(keys)
        problems = [
            Entry(f"/ids/{index}", f"There is no finding {key}.", "does_not_exist")
            if key not in found
            else Entry(f"/ids/{index}", f"Finding {key} is named twice.", "duplicate")
            for index, key in enumerate(keys)
            if key not in found or keys.index(key) != index
        ]
        if problems:
            raise invalid(*problems)
        return [found[key] for key in keys]


class CodebaseSerializer(serializers.ModelSerializer):
    """What is reviewed again and again."""

    last_session = serializers.IntegerField(allow_null=True, help_text="Its newest review.")
    open_findings = serializers.IntegerField(help_text="Present, not suppressed, and not dismissed by anybody.")

    class Meta:
        model = Codebase
        fields = ("id", "name", "root", "last_session", "open_findings", "created_at")
        read_only_fields = fields


class CodebaseFilters(django_filters.FilterSet):
    """What a list of codebases can be limited to."""

    name = django_filters.CharFilter()

    class Meta:
        model = Codebase
        fields: ClassVar[list[Any]] = []


class CodebaseViewSet(ReadViewSet):
    """Codebases that were reviewed."""

    http_method_names = ["get", "head"]
    queryset = Codebase.objects.all()
    serializer_class = CodebaseSerializer
    filterset_class = CodebaseFilters
    search_fields = ("name", "root")
    ordering = ("name",)
    ordering_fields = {name: name for name in ("id", "name", "created_at", "open_findings")}

    def get_queryset(self) -> models.QuerySet:
        newest = ReviewSession.objects.filter(tracked_codebase=OuterRef("pk")).order_by("-id").values("pk")[:1]
        counted = Q(findings__presence=Presence.PRESENT, findings__suppressed=False)
        counted &= ~Q(findings__triage__in=DISMISSED)
        return (
            super()
            .get_queryset()
            .annotate(last_session=Subquery(newest), open_findings=Count("findings", filter=counted))
        )
