"""What must a change satisfy, and which rules are set differently for a while? Governance rules and overrides."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q

from audit.changes import current_origin
from audit.governed import GovernedModel
from audit.history import GovernedHistory
from audit.permissions import RoleGrant, UserGrant
from overrides import validation
from overrides.choices import SECOND_PERSON, Enforcement, OverrideStatus, TargetType

check_name = RegexValidator(
    r"^[a-z0-9][a-z0-9_-]*\Z", "A name has lower-case letters, digits, hyphens and underscores."
)


def applies_to_everything() -> dict[str, list[str]]:
    """What a governance rule judges unless it says otherwise."""
    return {"entity_types": [], "change_types": []}


def no_examples() -> dict[str, list[Any]]:
    """Examples of a governance rule that has none yet."""
    return {"pass": [], "fail": []}


class GovernanceRule(GovernedModel):
    """What every change of some kind must satisfy, whoever makes it and through whichever door."""

    entity_type = "governance_rule"
    noun = "governance_rule"
    section = "governance_rules"
    exchange_fields = tuple("name title applies_to condition message enforcement enabled examples".split())

    name = models.CharField(
        max_length=100, unique=True, validators=[check_name], help_text="The key in refusals and waivers; fixed."
    )
    title = models.CharField(max_length=200, blank=True)
    applies_to = models.JSONField(
        default=applies_to_everything,
        blank=True,
        help_text="Which changes are judged: entity_types such as analysis_rule, change_types such as rule_updated; "
        "an empty list means any.",
    )
    condition = models.TextField(
        help_text="CEL: true for a change that is acceptable. Sees old and new (null where there is none), actor, "
        "change and facts."
    )
    message = models.TextField(help_text="What somebody is told whose change does not satisfy it.")
    enforcement = models.CharField(
        max_length=20,
        choices=Enforcement.choices,
        default=Enforcement.BLOCK,
        help_text="Refuse such a change, only warn of it, or let it pass for whoever has an approved waiver.",
    )
    enabled = models.BooleanField(default=True)
    examples = models.JSONField(
        default=no_examples,
        blank=True,
        help_text="Changes that must pass and changes that must fail, run before it is stored.",
    )

    history = GovernedHistory(table_name="governance_rules_history")

    class Meta(GovernedModel.Meta):
        db_table = "governance_rules"
        ordering = ["name"]
        verbose_name = "governance rule"
        constraints = [
            models.CheckConstraint(
                condition=~Q(name=""), name="governance_rule_has_a_name", violation_error_message="It needs a name."
            ),
            models.CheckConstraint(
                condition=Q(enforcement__in=Enforcement.values),
                name="enforcement_is_known",
                violation_error_message="The enforcement is not known.",
            ),
        ]

    def clean(self) -> None:
        super().clean()
        if self.name == SECOND_PERSON:
            raise ValidationError({"name": "This name is the built-in rule's. Choose another one."})
        validation.check_governance_rule(
            applies_to=self.applies_to, condition=self.condition, examples=self.examples, enabled=self.enabled
        )


class GovernanceRuleOverride(GovernedModel):
    """For a limited time, a rule is in force differently. It takes effect only when somebody else has approved it."""

    entity_type = "governance_override"
    noun = "override"
    natural_key_fields = ("rule_name",)
    fixed_fields = ("rule_name", "target_type", "created_by")
    restore = "propose"

    rule_name = models.CharField(max_length=100, help_text="The rule that is overridden.")
    target_type = models.CharField(max_length=20, choices=TargetType.choices, default=TargetType.ANALYSIS_RULE)
    original_config = models.JSONField(
        default=dict, editable=False, help_text="The rule as it was when this was asked for."
    )
    override_config = models.JSONField(
        default=dict,
        blank=True,
        help_text="What is different: a merge patch on the rule. Of a waiver, which object it is about: entity_type, "
        "entity_id or entity_name; empty: any.",
    )
    paths = models.JSONField(default=list, blank=True, help_text="Path globs it is limited to; empty: everywhere.")
    reason = models.TextField(help_text="Why this is needed.")
    status = models.CharField(max_length=20, choices=OverrideStatus.choices, default=OverrideStatus.DRAFT)
    created_by = models.CharField(max_length=150, editable=False)
    approved_by = models.CharField(max_length=150, null=True, blank=True, editable=False)
    enabled = models.BooleanField(default=False, editable=False, help_text="Whether it is in force until it expires.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="When it ends by itself.")

    history = GovernedHistory(table_name="governance_rule_overrides_history")

    class Meta(GovernedModel.Meta):
        db_table = "governance_rule_overrides"
        ordering = ["-id"]
        verbose_name = "governance override"
        permissions = [
            ("approve_governanceruleoverride", "Can approve and reject overrides"),
            ("view_configuration", "Can read the whole configuration in force"),
            ("export_configuration", "Can export the configuration"),
            ("import_configuration", "Can import a configuration"),
            ("break_glass", "Can break the glass"),
        ]
        indexes = [
            models.Index(fields=["status", "expires_at"], name="overrides_status"),
            models.Index(fields=["rule_name"], name="overrides_rule_name"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=OverrideStatus.values),
                name="override_status_is_known",
                violation_error_message="The status is not known.",
            ),
            models.CheckConstraint(
                condition=Q(enabled=False, status__in=sorted(set(OverrideStatus.values) - {"active"}))
                | Q(enabled=True, status=OverrideStatus.ACTIVE),
                name="override_in_force_is_active",
                violation_error_message="An override is in force exactly while it is active.",
            ),
            models.CheckConstraint(
                condition=Q(enabled=False) | Q(approved_by__isnull=False, expires_at__isnull=False),
                name="override_in_force_is_approved",
                violation_error_message="An override in force has an approver and an end.",
            ),
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True) | ~Q(approved_by=F("created_by")),
                name="override_is_approved_by_another",
                violation_error_message="Nobody approves his own override.",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("created_at")),
                name="override_ends_after_it_begins",
                violation_error_message="An override ends after it was asked for.",
            ),
        ]

    def become_proposal(self) -> None:
        """Come back without force: what is restored from a document or from history has to be approved anew."""
        self.status, self.enabled, self.approved_by = OverrideStatus.DRAFT, False, None

    def clean(self) -> None:
        super().clean()
        if not self.created_by:
            self.created_by = current_origin().actor()[1]
        if self.target_type == TargetType.ANALYSIS_RULE:
            validation.check_override_config(self.override_config)
        validation.check_paths(self.paths)
        if self.approved_by is not None and self.approved_by == self.created_by:
            raise ValidationError("Nobody approves his own override.")


class OverrideUserGrant(UserGrant):
    """A right of one user on one override."""

    content_object = models.ForeignKey(GovernanceRuleOverride, on_delete=models.CASCADE)


class OverrideRoleGrant(RoleGrant):
    """A right of one role on one override."""

    content_object = models.ForeignKey(GovernanceRuleOverride, on_delete=models.CASCADE)


class GovernanceRuleUserGrant(UserGrant):
    """A right of one user on one governance rule."""

    content_object = models.ForeignKey(GovernanceRule, on_delete=models.CASCADE)


class GovernanceRuleRoleGrant(RoleGrant):
    """A right of one role on one governance rule."""

    content_object = models.ForeignKey(GovernanceRule, on_delete=models.CASCADE)
