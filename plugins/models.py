"""Which analyzers are switched on, how are they set, and are they well? `Plugin` is governed, its health is not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.db import models
from django.utils import timezone

from audit import encryption
from audit.governed import GovernedModel
from audit.history import GovernedHistory
from audit.permissions import RoleGrant, UserGrant
from plugins import masking, obstacles, registry, schemas, sealing
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
    def conceal(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Secret settings are marked as set. Without its analyzer nobody knows which they are: then all are."""
        content = super().conceal(content)
        analyzer = registry.analyzers().get(content.get("name"))
        configuration = content["configuration"]
        if analyzer is None:
            return {**content, "configuration": masking.mask_everything(configuration)}
        secret = schemas.secret_fields(analyzer.configuration_schema)
        return {**content, "configuration": masking.mask(configuration, secret)}

    def clean(self) -> None:
        super().clean()
        if self.analyzer is None and not self.enabled and self._is_set_as_before():
            return  # its package is gone: it can still be switched off
        sealing.protect(
            self, "configuration", self.secret_fields, lambda clear: check_plugin_configuration(self.name, clear)
        )
        if self.enabled:
            # Before the lock, so that the check under it (plugins.receivers) need not start the programs.
            obstacles.find_programs(self.name)

    @property
    def secret_fields(self) -> list[str]:
        """JSON pointers of the secret settings, as the installed analyzer says."""
        return schemas.secret_fields(self.analyzer.configuration_schema) if self.analyzer is not None else []

    def keep_hidden(self, stored: Plugin) -> None:
        """A secret that is not said, or said as it is shown, is the stored one."""
        sealing.keep_in(self, "configuration", self.secret_fields, stored.configuration)

    def reveal_configuration(self) -> dict[str, Any]:
        """The settings as the analyzer needs them, secrets in clear. Raises `encryption.Unreadable`."""
        return encryption.reveal(self.configuration)

    def _is_set_as_before(self) -> bool:
        stored = sealing.read_stored(self, "configuration")
        return encryption.mark(self.configuration) == encryption.mark(stored)


class PluginHealth(models.Model):
    """How a plugin was when it was last looked at or run, and how it did lately. Not configuration, so not governed."""

    class Status(models.TextChoices):
        UNKNOWN = "unknown"
        HEALTHY = "healthy"
        DEGRADED = "degraded"
        FAILING = "failing"
        MISSING = "missing"

    plugin = models.OneToOneField(Plugin, on_delete=models.CASCADE, related_name="health", primary_key=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.UNKNOWN)
    checked_at = models.DateTimeField(default=timezone.now)
    detail = models.TextField(blank=True)
    executables = models.JSONField(
        default=list, blank=True, help_text="Programs that it runs: name, path, version, problem, as found last."
    )
    last_run_at = models.DateTimeField(null=True, blank=True)
    last_run = models.JSONField(
        null=True, blank=True, help_text="Seconds, files, findings and failures of the last run."
    )
    runs = models.PositiveIntegerField(default=0, help_text="Runs that these figures tell of: the last 100 at most.")
    failed_runs = models.PositiveIntegerField(default=0, help_text="Those of them in which something failed.")
    p95_seconds = models.FloatField(null=True, blank=True, help_text="19 of 20 runs took no longer than this.")
    failure = models.TextField(blank=True, help_text="The first failure of the last run that had one.")

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
