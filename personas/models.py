"""Who speaks for which rule? Personas, and their assignments to rules."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.deletion import CASCADE, Collector, ProtectedError

from audit.changes import current_origin
from audit.governed import GovernedModel
from audit.history import GovernedHistory
from audit.permissions import RoleGrant, UserGrant
from personas import validation
from rules.models import AnalysisRule

check_name = RegexValidator(
    r"^[a-z0-9][a-z0-9_-]*\Z", "A name has lower-case letters, digits, hyphens and underscores."
)


class Persona(GovernedModel):
    """A reviewer's voice: who explains a finding, and what they care for."""

    entity_type = "persona"
    noun = "persona"
    section = "personas"
    exchange_fields = ("name", "title", "description", "voice", "rule_types")

    name = models.CharField(
        max_length=50,
        unique=True,
        validators=[check_name],
        help_text="The key in assignments and file names; fixed.",
    )
    title = models.CharField(max_length=200, blank=True, help_text="Such as: The security engineer.")
    description = models.TextField(blank=True)
    voice = models.TextField(blank=True, help_text="How this persona thinks and speaks: it becomes part of prompts.")
    rule_types = models.JSONField(
        default=list,
        blank=True,
        help_text="Rule types this persona looks after by default; empty: any, but never by default.",
    )

    history = GovernedHistory(table_name="personas_history")

    class Meta(GovernedModel.Meta):
        db_table = "personas"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(name=""), name="persona_has_a_name", violation_error_message="A persona has a name."
            )
        ]

    @property
    def entity_id(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        validation.check_persona_name(self.name)
        validation.check_rule_types(self.rule_types)


def cascade_unless_active(collector: Collector, field: models.Field, assignments: Any, using: str) -> None:
    """A persona that speaks for rules cannot be deleted; its past assignments go with it."""
    active = {item for item in assignments if item.is_active}
    if active:
        raise ProtectedError("The persona still speaks for rules.", active)
    CASCADE(collector, field, assignments, using)


class PersonaRuleAssignment(GovernedModel):
    """A persona speaks for a rule. Ending it keeps the row, inactive."""

    entity_type = "persona_assignment"
    noun = "persona_assignment"
    natural_key_fields = ("rule", "persona")
    section = "persona_assignments"
    exchange_fields = ("rule", "persona", "confidence_score", "assignment_reason")
    fixed_fields = ("rule", "persona", "created_by")

    rule = models.ForeignKey(AnalysisRule, on_delete=models.CASCADE, related_name="assignments")
    persona = models.ForeignKey(
        Persona, to_field="name", db_column="persona_name", on_delete=cascade_unless_active, related_name="assignments"
    )
    assignment_reason = models.TextField(null=True, blank=True)
    confidence_score = models.DecimalField(
        max_digits=3,
        decimal_places=2,
        default=Decimal("1.0"),
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="From 0 to 1: how well the persona fits.",
    )
    created_by = models.CharField(max_length=150, editable=False)
    is_active = models.BooleanField(default=True)

    history = GovernedHistory(table_name="persona_rule_assignments_history")

    class Meta(GovernedModel.Meta):
        db_table = "persona_rule_assignments"
        ordering = ["rule__name", "persona_id"]
        verbose_name = "persona assignment"
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "persona"],
                condition=Q(is_active=True),
                name="one_active_assignment",
                violation_error_message="This persona already speaks for this rule.",
            ),
            models.CheckConstraint(
                condition=Q(confidence_score__gte=0) & Q(confidence_score__lte=1),
                name="confidence_from_0_to_1",
                violation_error_message="The confidence is a number from 0 to 1.",
            ),
        ]
        indexes = [models.Index(fields=["is_active"], name="persona_assignments_active")]

    @property
    def entity_name(self) -> str:
        return f"{self.persona_id} for {self.rule.name}"

    @classmethod
    def name_change(cls, action: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
        was, is_now = bool(old and old["is_active"]), bool(new and new["is_active"])
        if was != is_now:
            return "persona_assigned" if is_now else "persona_unassigned"
        return super().name_change(action, old, new)

    def clean(self) -> None:
        super().clean()
        if not self.created_by:
            self.created_by = current_origin().actor()[1]
        # With missing relations the fields have their own errors already.
        rule = (
            AnalysisRule.objects.filter(pk=self.rule_id).first()
            if "rule" not in self._state.fields_cache
            else self.rule
        )
        persona = Persona.objects.filter(name=self.persona_id).first() if self.persona_id else None
        if rule is None or persona is None or not self.is_active:
            return
        validation.check_assignment(
            rule_name=rule.name, rule_type=rule.rule_type, persona_name=persona.name, persona_types=persona.rule_types
        )
        others = PersonaRuleAssignment.objects.filter(rule_id=self.rule_id, persona_id=self.persona_id, is_active=True)
        if others.exclude(pk=self.pk).exists():
            raise ValidationError(
                {"persona": ValidationError(f"{persona.name} already speaks for {rule.name}.", code="unique")}
            )


class PersonaUserGrant(UserGrant):
    """A right of one user on one persona."""

    content_object = models.ForeignKey(Persona, on_delete=models.CASCADE)


class PersonaRoleGrant(RoleGrant):
    """A right of one role on one persona."""

    content_object = models.ForeignKey(Persona, on_delete=models.CASCADE)
