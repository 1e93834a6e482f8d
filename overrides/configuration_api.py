"""How is the configuration in force read over HTTP? Whole, as it was at a revision, or what has changed since one."""

from __future__ import annotations

from typing import ClassVar

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from audit.listing import MAX_KEY, read_number
from audit.permissions import require_holding
from audit.problems import Entry, Problem, invalid
from audit.rollback import find_end
from audit.serializers import ObjectField
from audit.viewsets import ApiMixin, read_tags
from overrides.api import VIEW_CONFIGURATION
from overrides.configuration import tag
from overrides.delta import MAX_CHANGES, spell_delta
from overrides.effective import load_configuration
from overrides.past import HistoryMissing, recall_configuration
from overrides.stored import read_mark


class PluginInForceSerializer(serializers.Serializer):
    """A plugin, its switch and settings; secrets as `{"set": true}`."""

    name = serializers.CharField()
    enabled = serializers.BooleanField()
    configuration = ObjectField()
    version = serializers.IntegerField()


class RuleInForceSerializer(serializers.Serializer):
    """An enabled rule with what overrides change in it."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    rule_type = serializers.CharField()
    severity = serializers.CharField()
    plugin = serializers.CharField()
    configuration = ObjectField()
    file_types = serializers.ListField(child=serializers.CharField())
    file_patterns = serializers.ListField(child=serializers.CharField())
    exclude_patterns = serializers.ListField(child=serializers.CharField())
    message = serializers.CharField()
    remediation = serializers.CharField()
    references = serializers.ListField(child=serializers.CharField())
    tags = serializers.ListField(child=serializers.CharField())
    status = serializers.CharField()
    suppressible = serializers.BooleanField()
    enabled = serializers.BooleanField()
    version = serializers.IntegerField()
    personas = serializers.ListField(child=serializers.CharField())
    overridden_by = serializers.ListField(child=serializers.IntegerField())


class PersonaInForceSerializer(serializers.Serializer):
    """A persona."""

    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    voice = serializers.CharField()
    rule_types = serializers.ListField(child=serializers.CharField())
    version = serializers.IntegerField()


class AssignmentInForceSerializer(serializers.Serializer):
    """A persona speaks for a rule."""

    rule = serializers.CharField()
    persona = serializers.CharField()
    confidence_score = serializers.FloatField()
    assignment_reason = serializers.CharField(allow_null=True)


class OverrideInForceSerializer(serializers.Serializer):
    """An override in force; with `paths` it counts only there, and is not part of the rule above."""

    id = serializers.IntegerField()
    rule_name = serializers.CharField()
    override_config = ObjectField()
    paths = serializers.ListField(child=serializers.CharField())
    approved_by = serializers.CharField()
    expires_at = serializers.DateTimeField()


class ConfigurationSerializer(serializers.Serializer):
    """The configuration in force, whole and at one revision."""

    epoch = serializers.CharField(help_text="The history that revisions count in; a restored backup begins a new one.")
    revision = serializers.IntegerField()
    evaluated_at = serializers.DateTimeField(help_text="Since when this is the answer: the last change or lapse.")
    valid_until = serializers.DateTimeField(allow_null=True, help_text="When the next override lapses.")
    rules = RuleInForceSerializer(many=True)
    plugins = PluginInForceSerializer(many=True)
    personas = PersonaInForceSerializer(many=True)
    assignments = AssignmentInForceSerializer(many=True)
    overrides = OverrideInForceSerializer(many=True)


class ChangedSerializer(serializers.Serializer):
    """Objects that changed, as they are in force now."""

    rules = RuleInForceSerializer(many=True)
    plugins = PluginInForceSerializer(many=True)
    personas = PersonaInForceSerializer(many=True)
    assignments = AssignmentInForceSerializer(many=True)
    overrides = OverrideInForceSerializer(many=True)


class PairSerializer(serializers.Serializer):
    """What identifies an assignment."""

    rule = serializers.CharField()
    persona = serializers.CharField()


class RemovedSerializer(serializers.Serializer):
    """What is not in force any more, by names and ids; some of it may never have been."""

    rules = serializers.ListField(child=serializers.CharField())
    plugins = serializers.ListField(child=serializers.CharField())
    personas = serializers.ListField(child=serializers.CharField())
    assignments = PairSerializer(many=True)
    overrides = serializers.ListField(child=serializers.IntegerField())


class DeltaSerializer(serializers.Serializer):
    """What makes the configuration at `since` the one in force now."""

    epoch = serializers.CharField(help_text="If it is not the one of what you have, load the whole.")
    revision = serializers.IntegerField()
    since = serializers.IntegerField()
    evaluated_at = serializers.DateTimeField()
    valid_until = serializers.DateTimeField(allow_null=True)
    changed = ChangedSerializer()
    removed = RemovedSerializer()


class ConfigurationView(ApiMixin, APIView):
    """The configuration in force."""

    query_parameters: ClassVar[dict[str, list[str]]] = {"get": ["since", "revision"], "head": ["since", "revision"]}

    @extend_schema(
        responses=PolymorphicProxySerializer(
            "ConfigurationOrDelta", [ConfigurationSerializer, DeltaSerializer], resource_type_field_name=None
        ),
        parameters=[
            OpenApiParameter(
                "since",
                {"type": "integer", "minimum": 0, "maximum": MAX_KEY},
                description="The revision of the answer that you have: only what changed is sent. 410 if that was more "
                f"than {MAX_CHANGES:,} changes ago.",
            ),
            OpenApiParameter(
                "revision",
                {"type": "integer", "minimum": 1, "maximum": MAX_KEY},
                description="The configuration as it was right after this revision, the last one of its change.",
            ),
        ],
    )
    def get(self, request: Request) -> HttpResponse:
        """Everything that a review obeys now. With `If-None-Match` the answer is 304 while nothing has changed."""
        require_holding(request.user, VIEW_CONFIGURATION)
        if "since" in request.query_params and "revision" in request.query_params:
            raise invalid(Entry("/revision", "This cannot be combined with since.", "conflict"))
        if "since" in request.query_params:
            return self.tell_delta(request)
        if "revision" in request.query_params:
            return self.tell_past(request)
        configuration = load_configuration()
        return unchanged(request, configuration.etag) or answer(configuration.body, configuration.etag)

    def tell_delta(self, request: Request) -> HttpResponse:
        """What changed since a revision."""
        since = read_number(request, "since", 0, 0, MAX_KEY)
        configuration = load_configuration()
        check_reached("since", since, configuration.revision)
        if configuration.revision - since > MAX_CHANGES:
            raise Problem("gone", f"Revision {since} is more than {MAX_CHANGES:,} changes old. Load the whole instead.")
        etag = f'{configuration.etag[:-1]}-since-{since}"'
        return unchanged(request, etag) or answer(spell_delta(configuration, since), etag)

    def tell_past(self, request: Request) -> HttpResponse:
        """The configuration as it was: that never changes, so its tag is enough to know it."""
        revision = read_number(request, "revision", 1, 1, MAX_KEY)
        mark = read_mark()
        check_reached("revision", revision, mark.revision)
        etag = tag(mark.epoch, revision, "as-it-was")
        same = unchanged(request, etag)
        if same is not None:
            return same
        last = find_end(revision)
        if last != revision:
            detail = f"Revision {revision} lies inside a change that ended with revision {last}: name that one."
            raise invalid(Entry("/revision", detail, "inside_change"))
        try:
            return answer(recall_configuration(revision).body, etag)
        except HistoryMissing as error:
            raise Problem("conflict", str(error)) from error


def check_reached(name: str, revision: int, present: int) -> None:
    """Refuse a revision that is still to come, or that only an abandoned history has reached."""
    if revision > present:
        raise invalid(Entry(f"/{name}", f"The configuration is at revision {present} now.", "ahead"))


def answer(body: bytes, etag: str) -> HttpResponse:
    """Bytes that are JSON already."""
    return HttpResponse(body, content_type="application/json", headers={"ETag": etag})


def unchanged(request: Request, etag: str) -> HttpResponse | None:
    """A 304 if the client has what `etag` names."""
    if not matches(request.headers.get("If-None-Match"), etag):
        return None
    response = HttpResponse(status=304, headers={"ETag": etag})
    del response["Content-Type"]
    return response


def matches(header: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names `etag`; comparison is weak (RFC 9110)."""
    tags = read_tags(header) if header else []
    return tags == ["*"] or etag in [each.removeprefix("W/") for each in tags]
