"""How has each user arranged the frontend? Their own, so neither governed nor journalled."""

from __future__ import annotations

from django.conf import settings
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
