"""What do rules say to conditions about plugins? How many of them a plugin runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Count

from audit.facts import register_facts
from plugins.models import Plugin
from rules.models import AnalysisRule


def connect() -> None:
    """Register with the kernel."""
    register_facts(Plugin.entity_type, ["enabled_rules"], count_enabled_rules)


def count_enabled_rules(plugins: Sequence[Plugin]) -> Sequence[Mapping[str, Any]]:
    """Number of enabled rules that each plugin runs."""
    rows = AnalysisRule.objects.enabled().filter(plugin__in=[plugin.name for plugin in plugins]).order_by()
    counts = dict(rows.values("plugin_id").annotate(number=Count("pk")).values_list("plugin_id", "number"))
    return [{"enabled_rules": counts.get(plugin.name, 0)} for plugin in plugins]
