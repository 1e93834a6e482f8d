"""One example of each governed model, for tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from audit.governed import GovernedModel
from overrides.models import ApprovalPolicy, GovernanceRule, GovernanceRuleOverride, Webhook
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.factories import (
    make_assignment,
    make_governance_rule,
    make_override,
    make_persona,
    make_plugins,
    make_policy,
    make_rule,
    make_webhook,
)


@dataclass(frozen=True)
class Kind:
    """How to make one, how to change it, and what the journal calls that."""

    model: type[GovernedModel]
    make: Callable[[], GovernedModel]
    change: dict[str, Any]
    created: str
    updated: str
    deleted: str


def _assigned() -> PersonaRuleAssignment:
    rule = make_rule()
    return make_assignment(rule, make_persona("performance", rule_types=[]))


KINDS = [
    Kind(Plugin, make_plugins, {"enabled": False}, "plugin_created", "plugin_toggled", "plugin_deleted"),
    Kind(AnalysisRule, make_rule, {"severity": "low"}, "rule_created", "rule_updated", "rule_deleted"),
    Kind(Persona, make_persona, {"voice": "Calm."}, "persona_created", "persona_updated", "persona_deleted"),
    Kind(
        PersonaRuleAssignment,
        _assigned,
        {"assignment_reason": "knows it best"},
        "persona_assigned",
        "persona_assignment_updated",
        "persona_unassigned",
    ),
    Kind(
        GovernanceRule,
        make_governance_rule,
        {"message": "No."},
        "governance_rule_created",
        "governance_rule_updated",
        "governance_rule_deleted",
    ),
    Kind(
        ApprovalPolicy,
        make_policy,
        {"approvals": 3},
        "approval_policy_created",
        "approval_policy_updated",
        "approval_policy_deleted",
    ),
    Kind(
        Webhook,
        make_webhook,
        {"url": "https://hooks.example.com/others"},
        "webhook_created",
        "webhook_updated",
        "webhook_deleted",
    ),
    Kind(
        GovernanceRuleOverride,
        make_override,
        {"reason": "Until the rewrite."},
        "override_created",
        "override_updated",
        "override_deleted",
    ),
]
