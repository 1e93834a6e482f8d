"""Storey 4: governance rules, overrides, and the configuration in force."""

from importlib import import_module

from django.apps import AppConfig


class OverridesConfig(AppConfig):
    name = "overrides"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import_module("overrides.receivers").connect()
