"""How are plugins switched and watched over? Verbs that touch more than one row."""

from __future__ import annotations

from django.utils import timezone

from audit.changes import change_set
from plugins import registry
from plugins.models import Plugin, PluginHealth, requirements


def toggle(*, name: str, enabled: bool) -> Plugin:
    """Switch a plugin on or off. Raises `Plugin.DoesNotExist`, or `StateConflict` naming what depends on it."""
    with change_set():
        plugin = Plugin.objects.get(name=name)
        plugin.enabled = enabled
        plugin.save()
    return plugin


def sync_plugins() -> list[str]:
    """Give every installed analyzer its row; return the names of the new ones.

    A row whose package is gone stays, with its settings: its rules do not run, and its health says so. A new plugin is
    switched on only when what it requires is on.
    """
    created = []
    with change_set(reason="installed analyzers"):
        known = set(Plugin.objects.values_list("name", flat=True))
        for name in registry.dependency_order(list(registry.analyzers())):
            if name not in known:
                enabled = set(Plugin.objects.filter(enabled=True).values_list("name", flat=True))
                Plugin(name=name, enabled=enabled.issuperset(requirements(name))).save()
                created.append(name)
    return created


def check_health(plugin: Plugin) -> PluginHealth:
    """Load the analyzer, prepare it with the plugin's configuration and no rules, and note how that went."""
    status, detail = PluginHealth.Status.HEALTHY, ""
    analyzer = plugin.analyzer
    if analyzer is None:
        status = PluginHealth.Status.MISSING
        detail = registry.problems().get(plugin.name, "The package that provides this analyzer is not installed.")
    else:
        try:
            analyzer().prepare([], plugin.configuration)
            detail = f"version {analyzer.version} loads and accepts its configuration"
        except Exception as error:
            status, detail = PluginHealth.Status.FAILING, f"{type(error).__name__}: {error}"
    health, _ = PluginHealth.objects.update_or_create(
        plugin=plugin, defaults={"status": status, "detail": detail, "checked_at": timezone.now()}
    )
    return health


def configurations() -> dict[str, dict]:
    """The configuration of every enabled plugin by name."""
    return {plugin.name: plugin.configuration for plugin in Plugin.objects.filter(enabled=True)}
