"""How are reviews started, watched, cancelled and compared over HTTP?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import django_filters
from django.db import models
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from audit.listing import DEFAULT_LIMIT, MAX_KEY, MAX_LIMIT, KnownChoiceFilter, MomentFilter, read_number
from audit.permissions import DELETE, VIEW, permitted, require
from audit.problems import Entry, invalid
from audit.serializers import ObjectField, StrictCharField, StrictSerializer
from audit.viewsets import ReadViewSet
from reviews import starting
from reviews.choices import Scope
from reviews.comparison import Comparison, compare
from reviews.issue_api import DiscoveredIssueSerializer, KeyFilter
from reviews.liveness import close_lost_sessions, explain_wait
from reviews.models import DiscoveredIssue, ReviewSession
from reviews.roots import MAX_PATH
from reviews.starting import MAX_EXCLUDED, MAX_LINE, MAX_NAME, cancel_review, start_review

MAX_COMPARED = 100_000  # issues skipped in a part of a comparison


class ReviewSessionSerializer(serializers.ModelSerializer):
    """One run of the rules over a codebase, with the revision of the configuration it ran at."""

    codebase_id = serializers.IntegerField(source="tracked_codebase_id", allow_null=True, help_text="Of `codebases`.")
    exclude = serializers.ListField(child=serializers.CharField(), help_text="Lines as of a .gitignore, left out.")
    files_skipped = ObjectField(help_text="Number of files skipped, by reason.")
    counts = ObjectField(help_text="Number of findings by severity, by persona and by state.")
    failures = serializers.ListField(help_text="What analyzers could not do.")
    plugin_runs = ObjectField(help_text="By plugin: seconds, files, failures.")
    waiting = serializers.SerializerMethodField(
        help_text="Why a queued review has not begun after some seconds; empty if there is nothing to say."
    )

    class Meta:
        model = ReviewSession
        fields = (
            *("id", "codebase", "codebase_id", "root", "revision", "status", "waiting", "scope", "base_ref", "exclude"),
            *("started_by", "started_at", "finished_at", "seconds", "files_done", "files_total", "files_analyzed"),
            *("files_skipped", "rules_run", "counts", "failures", "plugin_runs", "cancel_requested"),
        )
        read_only_fields = fields

    def get_waiting(self, session: ReviewSession) -> str:
        return self.context["waits"].get(session.pk, "")


class StartSerializer(StrictSerializer):
    """What to review."""

    root = StrictCharField(
        max_length=MAX_PATH, help_text="A folder at or below an allowed root; a relative one begins at it."
    )
    codebase = StrictCharField(
        max_length=MAX_NAME,
        required=False,
        allow_blank=True,
        help_text="Name under which findings are followed from review to review; by default they follow the folder.",
    )
    exclude = serializers.ListField(
        child=StrictCharField(max_length=MAX_LINE, allow_blank=True),
        required=False,
        max_length=MAX_EXCLUDED,
        help_text="Lines as of a .gitignore, left out.",
    )


class PartCountsSerializer(serializers.Serializer):
    """How many there are."""

    new = serializers.IntegerField()
    fixed = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    suppressed = serializers.IntegerField(help_text="There still, but suppressed by a comment since.")


class ComparisonSerializer(serializers.Serializer):
    """What differs between two reviews of a codebase, by finding; without what people dismissed."""

    session = serializers.IntegerField()
    compared_with = serializers.IntegerField()
    counts = PartCountsSerializer()
    new = DiscoveredIssueSerializer(many=True)
    fixed = DiscoveredIssueSerializer(many=True, help_text="As they were in the other review.")
    unchanged = DiscoveredIssueSerializer(many=True)
    suppressed = DiscoveredIssueSerializer(many=True)


class ReviewSessionFilters(django_filters.FilterSet):
    """What a list of sessions can be limited to."""

    status = KnownChoiceFilter(choices=ReviewSession.Status.choices)
    scope = KnownChoiceFilter(choices=Scope.choices)
    codebase = django_filters.CharFilter()
    codebase_id = KeyFilter(field_name="tracked_codebase")
    started_by = django_filters.CharFilter()
    since = MomentFilter(field_name="started_at", lookup_expr="gte", label="Started at this moment or later.")
    until = MomentFilter(field_name="started_at", lookup_expr="lt", label="Started before this moment.")

    class Meta:
        model = ReviewSession
        fields: ClassVar[list[Any]] = []


class ReviewSessionViewSet(ReadViewSet):
    """Reviews: those that wait, run and have run."""

    http_method_names = ["get", "post", "delete", "head"]
    queryset = ReviewSession.objects.all()
    serializer_class = ReviewSessionSerializer
    filterset_class = ReviewSessionFilters
    search_fields = ("codebase", "root", "started_by")
    ordering = ("-id",)
    ordering_fields = {name: name for name in ("id", "codebase", "started_at", "seconds", "files_analyzed")}
    conflicts = ("create", "cancel", "destroy", "compare")  # actions that the state of a review may forbid

    @property
    def query_parameters(self) -> Mapping[str, Sequence[str]]:
        reading = ["with", "skip", "limit"] if self.action == "compare" else []
        return {"get": reading, "head": reading}

    def readable(self) -> models.QuerySet:
        close_lost_sessions(timezone.now())
        return super().readable()

    def show(self, shown: Any, *, many: bool = False, **others: Any) -> Any:
        self.waits = explain_wait(shown if many else [shown], timezone.now())
        return super().show(shown, many=many, **others)

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "waits": getattr(self, "waits", {})}

    @extend_schema(request=StartSerializer, responses={201: ReviewSessionSerializer})
    def create(self, request: Request) -> Response:
        """Start a review: it is queued, and a worker takes it. 409 if the folder is being reviewed already."""
        require(request.user, "run", ReviewSession)
        body = StartSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        session = start_review(
            root=asked["root"],
            user=request.user,
            codebase_name=asked.get("codebase", ""),
            exclude=asked.get("exclude", ()),
        )
        response = self.answer(session, status=201)
        response["Location"] = f"{request.path}/{session.pk}"
        return response

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a review with its issues and prompts; what people decided about findings stays. 409 while it runs."""
        session = self.get_object()
        require(request.user, DELETE, session)
        starting.require_ended(session)
        session.delete()
        return Response(status=204)

    @extend_schema(request=None, responses=ReviewSessionSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Stop a review: at once if no worker has taken it, else within a second or so. 409 if it has ended."""
        return self.answer(cancel_review(self.get_object(), request.user))

    @extend_schema(
        responses=ComparisonSerializer,
        parameters=[
            OpenApiParameter("with", OpenApiTypes.INT, required=True, description="The other review, by its id."),
            OpenApiParameter("skip", OpenApiTypes.INT, description="How many to leave out of each list."),
            OpenApiParameter("limit", OpenApiTypes.INT, description="How many at most in each list."),
        ],
    )
    @action(detail=True, methods=["get"])
    def compare(self, request: Request, pk: str) -> Response:
        """What is new, fixed and unchanged since another review of the same codebase: worst first.

        409 if one of them did not look at everything.
        """
        require(request.user, VIEW, DiscoveredIssue)
        session = self.get_object()
        if "with" not in request.query_params:
            raise invalid(Entry("/with", "Name the review to compare with.", "required"))
        key = read_number(request, "with", 0, 0, MAX_KEY)
        other = get_object_or_404(permitted(request.user, VIEW, ReviewSession.objects.all()), pk=key)
        return Response(self._lay_out(request, compare(session, other)))

    def _lay_out(self, request: Request, comparison: Comparison) -> dict[str, Any]:
        skip = read_number(request, "skip", 0, 0, MAX_COMPARED)
        limit = read_number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        body: dict[str, Any] = {
            "session": comparison.session.pk,
            "compared_with": comparison.other.pk,
            "counts": {name: issues.count() for name, issues in comparison.parts()},
        }
        for name, issues in comparison.parts():
            shown = issues.select_related("finding")[skip : skip + limit]
            body[name] = DiscoveredIssueSerializer(shown, many=True).data
        return body
