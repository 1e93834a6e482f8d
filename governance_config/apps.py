"""Storey 6, the roof: wires the storeys together and decides nothing."""

from importlib import import_module

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class GovernanceConfigConfig(AppConfig):
    name = "governance_config"
    verbose_name = "Governance"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        roles = import_module("governance_config.roles")
        post_migrate.connect(roles.sync_after_migrate, sender=self, dispatch_uid="governance_config.roles")
