"""Which changes imply others here? A created rule gets the persona of its type, by whichever door it came."""

from __future__ import annotations

from audit.changes import ChangeSet, register_completion
from personas.services import assign_defaults
from rules.models import AnalysisRule


def connect() -> None:
    """Register the completion with the kernel."""
    register_completion(assign_default_personas)


def assign_default_personas(changes: ChangeSet) -> None:
    """At the end of the change set, so that a rule created with personas of its own keeps just those."""
    mine = [change for change in changes.changes if change.entity_type == AnalysisRule.entity_type]
    deleted = {change.entity_id for change in mine if change.action == "deleted"}
    created = [change.instance for change in mine if change.action == "created" and change.entity_id not in deleted]
    if created:
        assign_defaults(created)
