"""Storey 4: overrides, and the configuration in force."""

from django.apps import AppConfig


class OverridesConfig(AppConfig):
    name = "overrides"
    default_auto_field = "django.db.models.BigAutoField"
