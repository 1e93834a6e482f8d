"""Storey 2: analysis rules."""

from importlib import import_module

from django.apps import AppConfig


class RulesConfig(AppConfig):
    name = "rules"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import_module("rules.receivers").connect()
