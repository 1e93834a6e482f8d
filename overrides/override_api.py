"""How is an override asked for, decided on and ended over HTTP?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import django_filters
from django.db import models
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from audit.changes import MAX_REASON, change_set
from audit.listing import MAX_KEY, FlagFilter, KnownChoiceFilter, MomentFilter
from audit.permissions import ADD, may_see_some, require
from audit.problems import Problem
from audit.serializers import (
    GovernedSerializer,
    ObjectField,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
    reason_field,
)
from audit.viewsets import WriteViewSet, check_precondition
from overrides import approvals
from overrides.backlog import find_waiting_for, read_backlog
from overrides.choices import DecisionKind, OverrideStatus, TargetType
from overrides.decisions import list_approvals
from overrides.models import GovernanceRuleOverride, OverrideDecision
from overrides.targets import OverrideConflict, find_conflicts, find_requirement, find_target

EARLIEST, LATEST = 1900, 9000  # years that both databases can compare


class MomentField(serializers.DateTimeField):
    """A moment in ISO 8601 that can be stored."""

    def to_internal_value(self, value: Any) -> Any:
        try:
            moment = super().to_internal_value(value)
            if EARLIEST <= moment.year <= LATEST:
                return moment
        except (OverflowError, ValueError):
            pass
        raise serializers.ValidationError("The moment lies outside of what can be stored.", "invalid")


class ApprovalSerializer(serializers.ModelSerializer):
    """Somebody agreed with what the override says now."""

    user = serializers.CharField(source="decided_by")
    at = serializers.DateTimeField(source="created_at")

    class Meta:
        model = OverrideDecision
        fields = ("user", "at", "comment", "version_seen")


class DecisionSerializer(serializers.ModelSerializer):
    """What somebody did with the override; `revision` finds it in the journal."""

    user = serializers.CharField(source="decided_by")
    decision = serializers.ChoiceField(choices=DecisionKind.choices, source="kind")
    from_status = serializers.CharField()
    at = serializers.DateTimeField(source="created_at")

    class Meta:
        model = OverrideDecision
        fields = ("revision", "user", "decision", "from_status", "to_status", "at", "comment", "version_seen")


class RequirementSerializer(serializers.Serializer):
    """What the policy asks of this override."""

    severity = serializers.CharField(help_text="Of the rule as it is, or as the override makes it: the worse one.")
    approvals = serializers.IntegerField(help_text="How many different people approve.")
    max_days = serializers.IntegerField(help_text="How long it may last.")


class ConflictSerializer(serializers.Serializer):
    """A field that the override changes and that was changed in the rule since."""

    field = serializers.CharField(help_text="Such as severity, or configuration.pattern.")
    original = serializers.JSONField(allow_null=True, help_text="When the override was asked for.")
    override = serializers.JSONField(allow_null=True, help_text="By the override.")
    current = serializers.JSONField(allow_null=True, help_text="In the rule now.")


class OverrideSerializer(GovernedSerializer):
    """For a limited time, a rule is in force differently."""

    id = serializers.IntegerField(read_only=True)
    original_config = ObjectField(read_only=True, help_text="The rule as it was when this was asked for.")
    override_config = ObjectField(
        help_text="What is different: a merge patch (RFC 7396) on the rule. Of a waiver: what it is about."
    )
    paths = serializers.ListField(child=StrictCharField(), required=False, help_text="Globs; empty: everywhere.")
    expires_at = MomentField(required=False, allow_null=True, help_text="When it ends; only a draft may lack it.")
    draft = StrictBooleanField(write_only=True, required=False, help_text="Keep it back: it is proposed later.")
    break_glass = StrictBooleanField(
        required=False, help_text="An emergency: in force at once, without approval, reviewed afterwards."
    )
    in_force = serializers.SerializerMethodField(help_text="Enabled and not expired, by the clock of the server.")
    approvals = serializers.SerializerMethodField(help_text="Who agrees with what it says now.")
    decisions = serializers.SerializerMethodField(help_text="Who did what with it, oldest first.")

    class Meta:
        model = GovernanceRuleOverride
        fields = (
            *("id", "rule_name", "target_type", "original_config", "override_config", "paths", "reason", "status"),
            *("created_by", "approved_by", "approvals", "approval_count", "decisions", "enabled", "in_force"),
            *("expires_at", "break_glass", "needs_review", "self_approved", "draft"),
            *GovernedSerializer.bookkeeping,
            *GovernedSerializer.extra,
        )
        read_only_fields = (
            *("status", "created_by", "approved_by", "approval_count", "enabled", "needs_review", "self_approved"),
            *GovernedSerializer.bookkeeping,
        )

    def get_in_force(self, override: GovernanceRuleOverride) -> bool:
        return override.enabled and override.expires_at > timezone.now()

    @extend_schema_field(ApprovalSerializer(many=True))
    def get_approvals(self, override: GovernanceRuleOverride) -> Any:
        given = list_approvals(list(override.decisions.all()), override.content_digest)
        return ApprovalSerializer(given, many=True).data

    @extend_schema_field(DecisionSerializer(many=True))
    def get_decisions(self, override: GovernanceRuleOverride) -> Any:
        return DecisionSerializer(override.decisions.all(), many=True).data


class OverrideDetailSerializer(OverrideSerializer):
    """One override, with what the policy asks of it and where it stands against its rule."""

    required = serializers.SerializerMethodField(help_text="What the policy asks of it now.")
    conflicts = serializers.SerializerMethodField(
        help_text="Where its rule was changed since, while it waits: it is not approved before that is resolved."
    )

    actions = serializers.SerializerMethodField(
        help_text="What the caller can do with it now: propose, approve, reject, withdraw, revoke, confirm."
    )

    class Meta(OverrideSerializer.Meta):
        fields = (*OverrideSerializer.Meta.fields, "required", "conflicts", "actions")

    @extend_schema_field(RequirementSerializer)
    def get_required(self, override: GovernanceRuleOverride) -> Any:
        return RequirementSerializer(find_requirement(override)).data

    @extend_schema_field(ConflictSerializer(many=True))
    def get_conflicts(self, override: GovernanceRuleOverride) -> Any:
        target = find_target(override) if override.status == OverrideStatus.PROPOSED else None
        found = find_conflicts(override, target) if target is not None else []
        return [conflict.document() for conflict in found]

    def get_actions(self, override: GovernanceRuleOverride) -> list[str]:
        user = self.context["request"].user
        return approvals.list_verbs(override=override, user=user, now=timezone.now())


class VerdictSerializer(StrictSerializer):
    """What somebody says to an override."""

    comment = StrictCharField(
        required=False, allow_blank=True, max_length=MAX_REASON, help_text="Why; needed to reject, revoke and confirm."
    )
    version = StrictIntegerField(
        required=False, min_value=0, max_value=MAX_KEY, help_text="The version that was decided on; 412 if it moved."
    )
    change_reason = reason_field()


class BacklogSerializer(serializers.Serializer):
    """Figures of the overrides that the caller may see."""

    waiting = serializers.IntegerField(help_text="Proposed.")
    waiting_for_me = serializers.IntegerField(help_text="That the caller can approve or review.")
    oldest = serializers.DateTimeField(allow_null=True, help_text="When the one that waits longest was asked for.")
    in_force = serializers.IntegerField(help_text="By the clock.")
    expiring_soon = serializers.IntegerField(help_text="In force, and ending within 14 days.")
    expired = serializers.IntegerField(help_text="Ended by the clock within 30 days.")
    to_review = serializers.IntegerField(help_text="Put in force in an emergency, and not confirmed yet.")


class OverrideFilters(django_filters.FilterSet):
    """What a list of overrides can be limited to."""

    rule_name = django_filters.CharFilter()
    target_type = KnownChoiceFilter(choices=TargetType.choices)
    status = KnownChoiceFilter(choices=OverrideStatus.choices)
    enabled = FlagFilter()
    created_by = django_filters.CharFilter()
    approved_by = django_filters.CharFilter()
    break_glass = FlagFilter()
    needs_review = FlagFilter()
    expires_before = MomentFilter(field_name="expires_at", lookup_expr="lt", label="Ending before this moment.")
    waiting_for_me = FlagFilter(method="limit_to_mine", label="Whether the caller can approve or review it.")

    class Meta:
        model = GovernanceRuleOverride
        fields: ClassVar[list[str]] = []

    def limit_to_mine(self, overrides: models.QuerySet, name: str, value: bool) -> models.QuerySet:
        mine = find_waiting_for(self.request.user, GovernanceRuleOverride.objects.all(), timezone.now())
        keys = mine.order_by().values("pk")
        return overrides.filter(pk__in=keys) if value else overrides.exclude(pk__in=keys)


class ConflictProblem(Problem):
    """A 409 with the three versions of each field that was changed on both sides."""

    def __init__(self, conflict: OverrideConflict) -> None:
        super().__init__("conflict", " ".join(conflict.messages))
        self.conflicts = [each.document() for each in conflict.conflicts]

    def document(self, instance: str) -> dict[str, Any]:
        return {**super().document(instance), "conflicts": self.conflicts}


class OverrideViewSet(WriteViewSet):
    """Overrides: rules that are set differently for a while, and the approval that this takes."""

    http_method_names = ["get", "head", "post", "put", "patch"]
    queryset = GovernanceRuleOverride.objects.prefetch_related("decisions")
    serializer_class = OverrideSerializer
    filterset_class = OverrideFilters
    search_fields = ("rule_name", "reason", "created_by", "approved_by")
    ordering = ("-id",)
    ordering_fields = {name: name for name in ("id", "rule_name", "status", "expires_at", "created_at", "updated_at")}
    object_actions = ("view", "change", "approve")

    def get_serializer_class(self) -> Any:
        return OverrideSerializer if self.action == "list" else OverrideDetailSerializer

    @property
    def query_parameters(self) -> Mapping[str, Any]:
        return {} if self.action == "backlog" else super().query_parameters

    def create(self, request: Request) -> Response:
        """Ask for an override. It is proposed at once, or kept back as a draft."""
        require(request.user, ADD, GovernanceRuleOverride)
        _, values, _ = self.read_body(request, partial=False)
        with change_set(reason=values["reason"][:MAX_REASON]) as changes:
            item = approvals.request(user=request.user, **values)
        response = self.answer(self.reread(item), status=201, changes=changes)
        response["Location"] = f"{request.path}/{item.pk}"
        return response

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change what it says. That takes all approvals back, and it waits for approval again."""
        seen = self.get_object()
        self.require_some(seen)
        reason, values, _ = self.read_body(request, partial=True, instance=seen)
        if values.pop("break_glass", seen.break_glass) != seen.break_glass or values.pop("draft", False):
            raise Problem("conflict", "An emergency is told when an override is asked for: ask for a new one.")
        check_precondition(request, seen.version)
        with change_set(reason=reason) as changes:
            check_precondition(request, self.reload(seen).version)
            item = approvals.edit(override=seen, user=request.user, values=values)
        return self.answer(self.reread(item), changes=changes)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change what it says: PUT and PATCH alike."""
        return self.update(request, *args, **kwargs)

    def decide(self, request: Request, verb: approvals.Verb) -> Response:
        """Let `verb` move the override that the route names."""
        seen = self.get_object()
        body = VerdictSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        said = body.validated_data
        check_precondition(request, seen.version)
        comment = said.get("comment") or said.get("change_reason", "")
        try:
            with change_set(reason=comment) as changes:
                check_precondition(request, self.reload(seen).version)
                item = verb(override=seen, user=request.user, comment=comment, seen=said.get("version"))
        except OverrideConflict as conflict:
            raise ConflictProblem(conflict) from conflict
        return self.answer(self.reread(item), changes=changes)

    @extend_schema(request=VerdictSerializer, responses=OverrideDetailSerializer)
    @action(detail=True, methods=["post"])
    def propose(self, request: Request, pk: str) -> Response:
        """Ask for approval: of a draft, of what was rejected, or of what waits while its rule has moved."""
        return self.decide(request, approvals.propose)

    @extend_schema(request=VerdictSerializer, responses=OverrideDetailSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Agree. The last approval that it needs puts it in force.

        403 to whoever asked for it or edited it. 409 if its rule was changed where it changes the rule: `conflicts`
        tells each field as it was, as the override makes it, and as it is.
        """
        return self.decide(request, approvals.approve)

    @extend_schema(request=VerdictSerializer, responses=OverrideDetailSerializer)
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, pk: str) -> Response:
        """Decline, with a comment. One's own request is withdrawn."""
        return self.decide(request, approvals.reject)

    @extend_schema(request=VerdictSerializer, responses=OverrideDetailSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """Take one's own request back before it is in force."""
        return self.decide(request, approvals.withdraw)

    @extend_schema(request=VerdictSerializer, responses=OverrideDetailSerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """End what is in force, with a comment."""
        return self.decide(request, approvals.revoke)

    @extend_schema(request=VerdictSerializer, responses=OverrideDetailSerializer)
    @action(detail=True, methods=["post"])
    def confirm(self, request: Request, pk: str) -> Response:
        """Review what an emergency put in force: it was right. What was not is revoked."""
        return self.decide(request, approvals.confirm)

    @extend_schema(responses=BacklogSerializer, filters=False)
    @action(detail=False, methods=["get"], pagination_class=None)
    def backlog(self, request: Request) -> Response:
        """What waits, how long, and what ends soon."""
        if not may_see_some(request.user, "view", GovernanceRuleOverride):
            require(request.user, "view", GovernanceRuleOverride)
        return Response(BacklogSerializer(read_backlog(request.user, timezone.now())).data)
