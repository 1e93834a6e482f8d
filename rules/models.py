"""What does a review look for? Analysis rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from audit.governed import GovernedModel, GovernedQuerySet
from audit.history import GovernedHistory
from audit.permissions import RoleGrant, UserGrant
from plugins import masking, registry, schemas, sealing
from plugins.contract import RuleSpec
from plugins.models import Plugin
from rules import validation
from rules.choices import RuleStatus, RuleType, Severity

check_name = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z",
    "A name has letters, digits, dots, hyphens and underscores, and starts with one of the first two.",
)


def no_examples() -> dict[str, list[str]]:
    """Examples of a rule that has none yet."""
    return {"match": [], "no_match": []}


class AnalysisRuleQuerySet(GovernedQuerySet):
    """The questions that a review asks of the rules."""

    def enabled(self) -> Self:
        """Rules that run."""
        return self.filter(enabled=True)

    def for_file_type(self, file_type: str) -> Self:
        """Rules that apply to files of an extension such as ``.py``: those that name it, and those that name none."""
        wanted = validation.normalise_file_types([file_type])[0]
        # Extensions hold no quotes or escapes, so this finds whole entries of the list in both databases.
        return self.filter(Q(file_types=[]) | Q(file_types__icontains=f'"{wanted}"'))

    def at_least(self, severity: str) -> Self:
        """Rules of a severity or worse."""
        return self.filter(severity__in=Severity.at_least(severity))

    def tagged(self, tag: str) -> Self:
        """Rules that carry a tag."""
        return self.filter(tags__icontains=f'"{tag}"')


class AnalysisRule(GovernedModel):
    """One thing that a review looks for, run by its plugin."""

    entity_type = "analysis_rule"
    noun = "rule"
    section = "analysis_rules"
    exchange_fields = tuple(
        "name title description rule_type severity plugin configuration file_types file_patterns exclude_patterns "
        "message remediation references tags status examples suppressible enabled".split()
    )

    name = models.CharField(
        max_length=100,
        unique=True,
        validators=[check_name],
        help_text="The rule's key in findings and suppressions; fixed.",
    )
    title = models.CharField(max_length=200, blank=True, help_text="What people call the rule.")
    description = models.TextField(blank=True, help_text="Why it matters: what goes wrong when nobody looks for this.")
    rule_type = models.CharField(
        max_length=30,
        choices=RuleType.choices,
        help_text="What the rule looks after; a new rule gets the persona for it.",
    )
    severity = models.CharField(max_length=20, choices=Severity.choices, default=Severity.MEDIUM)
    plugin = models.ForeignKey(
        Plugin,
        to_field="name",
        db_column="plugin",
        on_delete=models.PROTECT,
        related_name="rules",
        default="patterns",
        help_text="The analyzer that runs the rule.",
    )
    configuration = models.JSONField(
        default=dict, blank=True, help_text="What the analyzer needs, checked by its schema."
    )
    file_types = models.JSONField(default=list, blank=True, help_text='Extensions such as ".py"; empty: any file.')
    file_patterns = models.JSONField(
        default=list, blank=True, help_text="Regular expressions (RE2) on the path; empty: any path."
    )
    exclude_patterns = models.JSONField(
        default=list, blank=True, help_text="Paths to leave out, as regular expressions (RE2)."
    )
    message = models.TextField(blank=True, help_text="What a finding says, at the line.")
    remediation = models.TextField(blank=True, help_text="What to do instead.")
    references = models.JSONField(default=list, blank=True, help_text="Addresses and CWE numbers worth reading.")
    tags = models.JSONField(default=list, blank=True)
    status = models.CharField(max_length=20, choices=RuleStatus.choices, default=RuleStatus.ACTIVE)
    examples = models.JSONField(
        default=no_examples,
        blank=True,
        help_text="Snippets that must match and must not, run before the rule is enabled.",
    )
    suppressible = models.BooleanField(
        default=True,
        help_text="Whether a comment in the code may suppress findings: code-review: ignore[RULE] -- reason.",
    )
    enabled = models.BooleanField(default=True)

    objects = AnalysisRuleQuerySet.as_manager()
    history = GovernedHistory(table_name="analysis_rules_history")

    class Meta(GovernedModel.Meta):
        db_table = "analysis_rules"
        ordering = ["name"]
        verbose_name = "analysis rule"
        indexes = [
            models.Index(fields=["enabled"], name="analysis_rules_enabled"),
            models.Index(fields=["rule_type"], name="analysis_rules_rule_type"),
            models.Index(fields=["severity"], name="analysis_rules_severity"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=~Q(name=""), name="rule_has_a_name", violation_error_message="A rule has a name."
            ),
            models.CheckConstraint(
                condition=Q(severity__in=Severity.values),
                name="rule_severity_is_known",
                violation_error_message="The severity is not one of info, low, medium, high, critical.",
            ),
            models.CheckConstraint(
                condition=Q(rule_type__in=RuleType.values),
                name="rule_type_is_known",
                violation_error_message="The rule type is not known.",
            ),
            models.CheckConstraint(
                condition=Q(status__in=RuleStatus.values),
                name="rule_status_is_known",
                violation_error_message="The status is not one of draft, active, deprecated.",
            ),
            models.CheckConstraint(
                condition=Q(enabled=False) | ~Q(status=RuleStatus.DRAFT),
                name="draft_rule_is_not_enabled",
                violation_error_message="A draft cannot be enabled: make it active first.",
            ),
        ]

    @property
    def secret_fields(self) -> list[str]:
        """JSON pointers of what is secret in the configuration, as the plugin says."""
        return list_secret_fields(self.plugin_id)

    @classmethod
    def conceal(cls, content: dict[str, Any]) -> dict[str, Any]:
        """What the plugin calls secret is marked as set."""
        content = super().conceal(content)
        pointers = list_secret_fields(content.get("plugin"))
        return {**content, "configuration": masking.mask(content["configuration"], pointers)} if pointers else content

    def keep_hidden(self, stored: AnalysisRule) -> None:
        """A secret that is not said, or said as it is shown, is the stored one of the same plugin."""
        before = stored.configuration if stored.plugin_id == self.plugin_id else {}
        sealing.keep_in(self, "configuration", self.secret_fields, before)

    def spec(self, configuration: Mapping[str, Any] | None = None) -> RuleSpec:
        """This rule as analyzers see it. `configuration` is its own one with the secrets in clear."""
        return RuleSpec(
            name=self.name,
            title=self.title,
            description=self.description,
            rule_type=self.rule_type,
            severity=self.severity,
            plugin=self.plugin_id,
            configuration=self.configuration if configuration is None else configuration,
            file_types=self.file_types,
            file_patterns=self.file_patterns,
            exclude_patterns=self.exclude_patterns,
            message=self.message,
            remediation=self.remediation,
            references=self.references,
            tags=self.tags,
            suppressible=self.suppressible,
        )

    def clean(self) -> None:
        super().clean()
        self.file_types = validation.normalise_file_types(self.file_types)
        if self.enabled and self.status == RuleStatus.DRAFT:
            raise ValidationError({"enabled": "A draft cannot be enabled: make it active first."})
        sealing.protect(
            self,
            "configuration",
            self.secret_fields,
            lambda clear: validation.check_content(self.spec(clear), examples=self.examples, enabled=self.enabled),
            stored=self._read_stored_configuration,
        )

    def _read_stored_configuration(self) -> Any:
        """What secrets are kept from: another plugin does not get those of the one before."""
        rows = AnalysisRule.objects.filter(pk=self.pk, plugin_id=self.plugin_id)
        return rows.values_list("configuration", flat=True).first()


def list_secret_fields(plugin: Any) -> list[str]:
    """JSON pointers of what is secret in the rules of the plugin of this name."""
    analyzer = registry.analyzers().get(plugin) if isinstance(plugin, str) else None
    return schemas.secret_fields(analyzer.rule_schema) if analyzer is not None else []


class AnalysisRuleUserGrant(UserGrant):
    """A right of one user on one rule."""

    content_object = models.ForeignKey(AnalysisRule, on_delete=models.CASCADE)


class AnalysisRuleRoleGrant(RoleGrant):
    """A right of one role on one rule."""

    content_object = models.ForeignKey(AnalysisRule, on_delete=models.CASCADE)
