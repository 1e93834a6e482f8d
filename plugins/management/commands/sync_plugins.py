"""Give every installed analyzer its row, and look at the health of all."""

from __future__ import annotations

from typing import Any

from audit.commands import GovernedCommand
from audit.permissions import require
from plugins.models import Plugin
from plugins.services import check_all, sync_plugins


class Command(GovernedCommand):
    help = "Give every installed analyzer its row, look at the health of all plugins, and list them."

    def act(self, user: Any, **options: Any) -> None:
        require(user, "change", Plugin)
        created = sync_plugins()
        plugins = list(Plugin.objects.all())
        for plugin, health in zip(plugins, check_all(plugins), strict=True):
            state = "enabled" if plugin.enabled else "disabled"
            new = " (new)" if plugin.name in created else ""
            self.stdout.write(f"{plugin.name}: {state}, {health.status}{new} - {health.detail}")
