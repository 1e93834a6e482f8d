"""Storey 1: analyzers and their switches."""

from importlib import import_module

from django.apps import AppConfig


class PluginsConfig(AppConfig):
    name = "plugins"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import_module("plugins.receivers").connect()
