"""Which analyzers are switched on, how are they set, and are they well? `Plugin` is governed, its health is not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from audit.errors import FieldError
from audit.governed import GovernedModel
from audit.history import GovernedHistory
from audit.permissions import RoleGrant, UserGrant
from plugins import masking, registry, schemas
from plugins.contract import Analyzer
from plugins.validation import check_plugin_configuration


class Plugin(GovernedModel):
    """The switch and settings of one installed analyzer. Rows come from `sync_plugins`; people toggle and set them."""

    entity_type = "plugin"
    noun = "plugin"
    section = "plugins"
    exchange_fields = ("name", "enabled", "configuration")

    name = models.CharField(max_length=50, unique=True)
    enabled = models.BooleanField(
        default=True, help_text="Whether rules of this plugin run. A plugin that others require cannot be switched off."
    )
    configuration = models.JSONField(
        default=dict, blank=True, help_text="Settings of the analyzer, checked against its JSON Schema."
    )

    history = GovernedHistory(table_name="plugins_history")

    class Meta(GovernedModel.Meta):
        db_table = "plugins"
        ordering = ["name"]
        default_permissions = ("view", "change")
        permissions = [("toggle_plugin", "Can enable and disable plugins")]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(name=""), name="plugin_has_a_name", violation_error_message="A plugin has a name."
            )
        ]

    @property
    def entity_id(self) -> str:
        return self.name

    @property
    def analyzer(self) -> type[Analyzer] | None:
        """The installed analyzer behind this row, or None if its package is gone."""
        return registry.analyzers().get(self.name)

    @classmethod
    def name_change(cls, action: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
        if action == "updated" and old["enabled"] != new["enabled"]:
            return "plugin_toggled"
        return super().name_change(action, old, new)

    @classmethod
    def action_for(cls, stored: Plugin, changed: Collection[str]) -> str:
        return "toggle" if set(changed) == {"enabled"} else "change"

    @classmethod
    def mask(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Secret settings are marked as set. Without its analyzer nobody knows which they are: then all are."""
        analyzer = registry.analyzers().get(content.get("name"))
        configuration = content["configuration"]
        if analyzer is None:
            return {**content, "configuration": masking.mask_everything(configuration)}
        secret = schemas.secret_fields(analyzer.configuration_schema)
        return {**content, "configuration": masking.mask(configuration, secret)}

    def clean(self) -> None:
        super().clean()
        self._keep_secrets()
        check_plugin_configuration(self.name, self.configuration)

    def _keep_secrets(self) -> None:
        """A secret that comes back as it was shown is the stored one, whichever door it comes through."""
        secret = schemas.secret_fields(self.analyzer.configuration_schema) if self.analyzer is not None else []
        if not secret:
            return
        stored = Plugin.objects.filter(pk=self.pk).values_list("configuration", flat=True).first()
        self.configuration, missing = masking.unmask(self.configuration, secret, stored or {})
        if missing:
            problem = "There is no stored value that could stay as it is: send one."
            raise ValidationError({"configuration": [FieldError(problem, pointer=pointer) for pointer in missing]})


def requirements(name: str) -> tuple[str, ...]:
    """What the installed analyzer `name` requires; nothing if it is not installed."""
    analyzer = registry.analyzers().get(name)
    return tuple(analyzer.requires) if analyzer is not None else ()


class PluginHealth(models.Model):
    """How a plugin was when it was last looked at. Not configuration, so not governed."""

    class Status(models.TextChoices):
        UNKNOWN = "unknown"
        HEALTHY = "healthy"
        FAILING = "failing"
        MISSING = "missing"

    plugin = models.OneToOneField(Plugin, on_delete=models.CASCADE, related_name="health", primary_key=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.UNKNOWN)
    checked_at = models.DateTimeField(default=timezone.now)
    detail = models.TextField(blank=True)

    class Meta:
        db_table = "plugin_health"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.plugin_id}: {self.status}"


class PluginRun(models.Model):
    """How a plugin did in one review. The last ones are kept; `PluginHealth` is judged by them."""

    plugin = models.ForeignKey(Plugin, on_delete=models.CASCADE, related_name="runs")
    ran_at = models.DateTimeField(default=timezone.now)
    seconds = models.FloatField(help_text="Time of the analyzer, all files together.")
    files = models.PositiveIntegerField(default=0)
    findings = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    detail = models.TextField(blank=True, help_text="The first failure.")

    class Meta:
        db_table = "plugin_runs"
        ordering = ["-id"]
        default_permissions = ()
        indexes = [models.Index(fields=["plugin", "-id"], name="plugin_runs_newest")]

    def __str__(self) -> str:
        return f"{self.plugin_id} in {self.seconds:.2f} s"


class PluginUserGrant(UserGrant):
    """A right of one user on one plugin."""

    content_object = models.ForeignKey(Plugin, on_delete=models.CASCADE)


class PluginRoleGrant(RoleGrant):
    """A right of one role on one plugin."""

    content_object = models.ForeignKey(Plugin, on_delete=models.CASCADE)
