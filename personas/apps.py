"""Storey 3: personas, and who speaks for which rule."""

from importlib import import_module

from django.apps import AppConfig


class PersonasConfig(AppConfig):
    name = "personas"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import_module("personas.receivers").connect()
