"""What does this storey say to every change? The governance rules, and facts that their conditions may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils import timezone

from audit import triggers
from audit.changes import register_check
from audit.facts import register_facts
from audit.timers import register_timer
from overrides.approvals import expire_due
from overrides.break_glass import check_right, register_watcher
from overrides.decisions import check_overrides
from overrides.governance import check_governance
from overrides.models import GovernanceRuleOverride, OverrideDecision
from overrides.notifications import remind_of_end, report_emergency
from overrides.protection import check_second_person
from overrides.webhook_relay import connect as connect_webhooks


def connect() -> None:
    """Register with the kernel."""
    register_check(check_right)
    register_check(check_overrides)
    register_check(check_governance)
    register_check(check_second_person)
    register_watcher(report_emergency)
    triggers.protect(OverrideDecision._meta.db_table, OverrideDecision._meta.pk.column)
    register_facts(GovernanceRuleOverride.entity_type, ["days"], find_days)
    register_timer(expire_due, name="override_expired", every=60)
    register_timer(remind, name="override_reminders", every=900)
    connect_webhooks()


def remind() -> None:
    """Tell whom it concerns which overrides end soon."""
    remind_of_end(now=timezone.now())


def find_days(overrides: Sequence[GovernanceRuleOverride]) -> Sequence[Mapping[str, Any]]:
    """For how many days each override was asked for; 0 while it has no end."""
    return [
        {"days": (item.expires_at - item.created_at).total_seconds() / 86_400 if item.expires_at else 0.0}
        for item in overrides
    ]
