"""What is kept that is not configuration? How users arranged the frontend, and configurations saved as presets.

Neither is governed: applying a preset is what changes something, and that is journalled.
"""

from __future__ import annotations

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone


class UiConfigurationState(models.Model):
    """What a frontend component remembers for a user."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    component_name = models.CharField(max_length=100)
    configuration = models.JSONField(default=dict)
    last_updated = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "ui_configuration_state"
        default_permissions = ()
        ordering = ["component_name"]
        constraints = [models.UniqueConstraint(fields=["user", "component_name"], name="one_state_a_component")]

    def __str__(self) -> str:
        return f"{self.component_name} of {self.user_id}"


MAX_PRESET = 5_000_000  # bytes
check_preset_name = RegexValidator(
    r"^[a-z0-9][a-z0-9_-]*\Z", "A name has lower-case letters, digits, hyphens and underscores."
)


class Preset(models.Model):
    """A configuration that somebody saved: a document, never changed afterwards."""

    name = models.CharField(max_length=100, primary_key=True, validators=[check_preset_name])
    title = models.CharField(max_length=200, blank=True)
    description = models.TextField(blank=True, max_length=2000)
    document = models.TextField(help_text="The document, as YAML.")
    created_by = models.CharField(max_length=150, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        db_table = "presets"
        ordering = ["name"]
        default_permissions = ("view", "add", "delete")
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(name=""), name="preset_has_a_name", violation_error_message="A preset has a name."
            )
        ]

    def __str__(self) -> str:
        return self.name
