"""The audit storey: what a governed thing is, how it may change, and the journal of changes."""

from importlib import import_module

from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import_module("audit.receivers").connect()
        import_module("audit.changes").register_completion(import_module("audit.creators").keep_own)
        import_module("audit.watchers").connect()
        import_module("audit.timers").connect()
        import_module("audit.key_checks").connect()
