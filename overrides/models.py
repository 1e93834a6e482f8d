"""What must a change satisfy, and which rules are set differently for a while? Governance rules and overrides."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any, NoReturn

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

from audit.changes import current_origin
from audit.documents import digest
from audit.errors import UngovernedWrite
from audit.governed import GovernedModel
from audit.history import GovernedHistory
from audit.permissions import RoleGrant, UserGrant
from overrides import validation
from overrides.choices import SECOND_PERSON, DecisionKind, Enforcement, NotificationKind, OverrideStatus, TargetType
from overrides.webhook_models import DeliveryStatus, Webhook, WebhookDelivery
from plugins import sealing
from rules.choices import Severity
from rules.models import AnalysisRule, list_secret_fields

__all__ = [
    "ApprovalPolicy",
    "DeliveryStatus",
    "GovernanceRule",
    "GovernanceRuleOverride",
    "GovernanceRuleRoleGrant",
    "GovernanceRuleUserGrant",
    "Notification",
    "OverrideDecision",
    "OverrideRoleGrant",
    "OverrideUserGrant",
    "Webhook",
    "WebhookDelivery",
]

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


class ApprovalPolicy(GovernedModel):
    """How many people approve an override of rules of a severity, and how long it may last.

    A severity without a row has the values of `STRICT` and `USUAL`: taking a row away never makes approval easier than
    that.
    """

    STRICT, USUAL = 2, 1  # approvals for critical rules, and for others
    MAX_DAYS = 90

    entity_type = "approval_policy"
    noun = "approval_policy"
    section = "approval_policies"
    natural_key_fields = ("severity",)
    fixed_fields = ("severity",)
    exchange_fields = ("severity", "approvals", "max_days")

    severity = models.CharField(
        max_length=20, unique=True, choices=Severity.choices, help_text="Of the rule that is overridden; fixed."
    )
    approvals = models.PositiveSmallIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(10)],
        help_text="How many different people must approve.",
    )
    max_days = models.PositiveSmallIntegerField(
        default=MAX_DAYS,
        validators=[MinValueValidator(1), MaxValueValidator(3650)],
        help_text="How many days such an override lasts at most.",
    )

    history = GovernedHistory(table_name="approval_policies_history")

    class Meta(GovernedModel.Meta):
        db_table = "approval_policies"
        ordering = ["id"]
        verbose_name = "approval policy"
        verbose_name_plural = "approval policies"
        constraints = [
            models.CheckConstraint(
                condition=Q(severity__in=Severity.values),
                name="approval_policy_severity_is_known",
                violation_error_message="The severity is not known.",
            ),
            models.CheckConstraint(
                condition=Q(approvals__gte=1, max_days__gte=1),
                name="approval_policy_asks_somebody",
                violation_error_message="At least one person approves, for at least a day.",
            ),
        ]


class GovernanceRuleOverride(GovernedModel):
    """For a limited time, a rule is in force differently. It takes effect only when somebody else has approved it."""

    entity_type = "governance_override"
    noun = "override"
    natural_key_fields = ("rule_name",)
    fixed_fields = ("rule_name", "target_type", "created_by")
    restore = "propose"
    content = ("rule_name", "target_type", "original_config", "override_config", "paths", "reason", "expires_at")

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
    approval_count = models.PositiveSmallIntegerField(
        default=0, editable=False, help_text="How many have approved what it says now."
    )
    break_glass = models.BooleanField(
        default=False, editable=False, help_text="Put in force in an emergency, before anybody approved."
    )
    needs_review = models.BooleanField(
        default=False, editable=False, help_text="An approver has yet to confirm or revoke what an emergency brought."
    )
    self_approved = models.BooleanField(
        default=False, editable=False, help_text="A superuser approved his own request, as this server allows."
    )

    history = GovernedHistory(table_name="governance_rule_overrides_history")

    class Meta(GovernedModel.Meta):
        db_table = "governance_rule_overrides"
        ordering = ["-id"]
        verbose_name = "governance override"
        permissions = [
            ("approve_governanceruleoverride", "Can approve and reject overrides"),
            ("break_glass", "Can break the glass"),
            ("view_configuration", "Can read the whole configuration in force"),
            ("export_configuration", "Can export the configuration"),
            ("import_configuration", "Can import a configuration"),
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
                condition=Q(enabled=False)
                | Q(approved_by__isnull=False, expires_at__isnull=False)
                | Q(break_glass=True, expires_at__isnull=False),
                name="override_in_force_is_approved",
                violation_error_message="An override in force has an approver and an end.",
            ),
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True) | ~Q(approved_by=F("created_by")) | Q(self_approved=True),
                name="override_is_approved_by_another",
                violation_error_message="Nobody approves his own override.",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("created_at")),
                name="override_ends_after_it_begins",
                violation_error_message="An override ends after it was asked for.",
            ),
        ]

    @property
    def is_waiver(self) -> bool:
        """Whether it is about a governance rule, which it lets somebody pass."""
        return self.target_type == TargetType.GOVERNANCE_RULE

    @property
    def content_digest(self) -> str:
        """What approvals are given for: any other content has another digest."""
        return digest_content(self.document())

    @classmethod
    def name_change(cls, action: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
        """`override_approved` is in force; `override_approval_added` waits for another one."""
        if new is not None and new["break_glass"] and (old is None or not old["enabled"]) and new["enabled"]:
            return "override_break_glass"
        if old is None or new is None:
            return f"{cls.noun}_{action}"
        if old["status"] != new["status"]:
            return f"{cls.noun}_{CHANGES.get(new['status'], action)}"
        if old["needs_review"] and not new["needs_review"]:
            return "override_confirmed"
        return "override_approval_added" if new["approval_count"] > old["approval_count"] else f"{cls.noun}_{action}"

    def withdraw_approvals(self) -> None:
        """Nobody has approved it: what it says is another thing now."""
        self.enabled, self.approved_by, self.approval_count = False, None, 0
        self.break_glass = self.needs_review = self.self_approved = False

    @property
    def secret_fields(self) -> list[str]:
        """JSON pointers of what is secret in the patch: what the plugin of the rule calls secret there."""
        plugin = AnalysisRule.objects.filter(name=self.rule_name).values_list("plugin_id", flat=True).first()
        return [f"/configuration{pointer}" for pointer in list_secret_fields(plugin)]

    def keep_hidden(self, stored: GovernanceRuleOverride) -> None:
        """A secret that is not said, or said as it is shown, is the stored one."""
        sealing.keep_in(self, "override_config", self.secret_fields, stored.override_config, null_removes=False)

    def become_proposal(self) -> None:
        """Come back without force: what is restored from a document or from history has to be approved anew."""
        self.status = OverrideStatus.DRAFT
        self.withdraw_approvals()

    def clean(self) -> None:
        super().clean()
        if not self.created_by:
            self.created_by = current_origin().actor()[1]
        if self.expires_at is not None:
            self.expires_at = self.expires_at.astimezone(UTC)  # one spelling of a moment, one digest
        if self.target_type == TargetType.ANALYSIS_RULE:
            # Null is part of the patch: it takes the rule's own secret away.
            sealing.protect(
                self, "override_config", self.secret_fields, validation.check_override_config, null_removes=False
            )
        else:
            validation.check_waiver(self.override_config)
        validation.check_paths(self.paths)
        if self.target_type == TargetType.GOVERNANCE_RULE and self.paths:
            raise ValidationError({"paths": "A waiver is about a change, which has no path: leave this empty."})
        if self.approved_by is not None and self.approved_by == self.created_by and not self.self_approved:
            raise ValidationError("Nobody approves his own override.")


CHANGES = {
    OverrideStatus.DRAFT: "returned",
    OverrideStatus.PROPOSED: "proposed",
    OverrideStatus.ACTIVE: "approved",
    OverrideStatus.EXPIRED: "expired",
    OverrideStatus.REJECTED: "rejected",
    OverrideStatus.WITHDRAWN: "withdrawn",
    OverrideStatus.REVOKED: "revoked",
}
"""What the journal calls the change that brings an override to a state."""


def digest_content(document: Mapping[str, Any]) -> str:
    """The digest of what an override says, of its document."""
    return digest({name: document[name] for name in GovernanceRuleOverride.content})


class DecisionQuerySet(models.QuerySet["OverrideDecision"]):
    """Reads only: `overrides.decisions.record` is the one writer, and the database refuses everybody else."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite("Decisions are append-only and written by the verbs of overrides.approvals alone.")

    create = update = delete = bulk_create = bulk_update = get_or_create = update_or_create = _refuse
    acreate = aupdate = adelete = abulk_create = abulk_update = _refuse


class OverrideDecision(models.Model):
    """What somebody did with an override: one row for each of its changes, by the revision that the journal gave it."""

    revision = models.BigIntegerField(primary_key=True)
    # No constraint: the row outlives an override that is deleted, and speaks of it again if it is brought back.
    override = models.ForeignKey(
        GovernanceRuleOverride, on_delete=models.DO_NOTHING, db_constraint=False, related_name="decisions"
    )
    kind = models.CharField(max_length=20, choices=DecisionKind.choices)
    from_status = models.CharField(max_length=20, blank=True)
    to_status = models.CharField(max_length=20, choices=OverrideStatus.choices)
    decided_by = models.CharField(max_length=150)
    decided_by_id = models.CharField(max_length=100, blank=True)
    comment = models.TextField(blank=True)
    version_seen = models.BigIntegerField(null=True, help_text="The version of the override that was decided on.")
    content_digest = models.CharField(max_length=64, help_text="Of what the override said.")
    created_at = models.DateTimeField()

    objects = DecisionQuerySet.as_manager()

    class Meta:
        db_table = "governance_override_decisions"
        base_manager_name = "objects"
        ordering = ["revision"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.decided_by}: {self.kind} at revision {self.revision}"

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite("Decisions are append-only and written by the verbs of overrides.approvals alone.")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite("Decisions are append-only: nobody deletes one.")


class Notification(models.Model):
    """Somebody is told of an override, or of a change past the governance rules. A hint, not a record of anything."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications")
    kind = models.CharField(max_length=20, choices=NotificationKind.choices)
    override = models.ForeignKey(
        GovernanceRuleOverride, on_delete=models.CASCADE, null=True, related_name="notifications"
    )
    revision = models.BigIntegerField(null=True, help_text="The first of the change, where it is about no override.")
    text = models.CharField(max_length=500)
    created_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "notifications"
        ordering = ["-id"]
        default_permissions = ()
        indexes = [models.Index(fields=["user", "read_at", "-id"], name="notifications_user")]

    def __str__(self) -> str:
        return self.text


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
