"""What must hold between plugins? No plugin runs without what it requires; nothing is switched on or off silently."""

from __future__ import annotations

from audit.changes import ChangeSet, register_check
from audit.errors import StateConflict
from plugins.models import Plugin, requirements


def connect() -> None:
    """Register the check with the kernel."""
    register_check(check_dependencies)


def check_dependencies(changes: ChangeSet) -> list[StateConflict]:
    """Judge the switches as they are at the end of the change set, so that dependents may be switched together."""
    changed = {change.entity_id for change in changes.changes if change.entity_type == Plugin.entity_type}
    if not changed:
        return []
    enabled = set(Plugin.objects.filter(enabled=True).values_list("name", flat=True))
    problems = []
    for name in sorted(enabled):
        missing = [required for required in requirements(name) if required not in enabled]
        # A contradiction that was there before, such as a package that was removed, does not block other changes.
        if missing and changed & {name, *missing}:
            them = "it" if len(missing) == 1 else "them"
            problems.append(
                StateConflict(
                    f"{name} requires {', '.join(missing)}: enable {them} first, or disable {name}.", code="dependency"
                )
            )
    return problems
