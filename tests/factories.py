"""Plain factories: a valid object of each kind, with what the test says differently."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import models
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from audit.changes import Origin, originating
from audit.exchange import FORMAT
from governance_config.models import Preset
from overrides import approvals
from overrides.models import ApprovalPolicy, GovernanceRule, GovernanceRuleOverride, Webhook
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from plugins.services import sync_plugins
from rules.models import AnalysisRule

PASSWORD = "correct horse battery staple"
_numbers = count(1)


def make_plugins() -> Plugin:
    """The rows of the installed analyzers; returns `patterns`."""
    sync_plugins()
    return Plugin.objects.get(name="patterns")


def build_rule(**fields: Any) -> AnalysisRule:
    """An unsaved rule that finds calls of eval."""
    values: dict[str, Any] = {
        "name": f"rule-{next(_numbers)}",
        "title": "No eval",
        "rule_type": "security",
        "severity": "high",
        "plugin_id": "patterns",
        "configuration": {"pattern": r"\beval\("},
        "file_types": [".py"],
        "message": "eval runs whatever it is given.",
        "examples": {"match": ["eval(text)"], "no_match": ["evaluate(text)"]},
        "enabled": True,
    }
    return AnalysisRule(**{**values, **fields})


def make_rule(**fields: Any) -> AnalysisRule:
    """A stored rule; the plugins are there afterwards."""
    make_plugins()
    rule = build_rule(**fields)
    rule.save()
    return rule


def make_persona(name: str = "security", **fields: Any) -> Persona:
    """A stored persona; by default the one that looks after security rules."""
    values: dict[str, Any] = {"title": name.title(), "voice": "You read for danger.", "rule_types": ["security"]}
    persona = Persona(name=name, **{**values, **fields})
    persona.save()
    return persona


def make_assignment(rule: AnalysisRule, persona: Persona, **fields: Any) -> PersonaRuleAssignment:
    """A stored, active assignment."""
    assignment = PersonaRuleAssignment(rule=rule, persona=persona, **fields)
    assignment.save()
    return assignment


BOOKKEPT = ("status", "enabled", "approved_by", "approval_count", "break_glass", "needs_review", "self_approved")


def make_override(rule_name: str = "rule", **fields: Any) -> GovernanceRuleOverride:
    """A stored override that is proposed and not in force.

    One that `fields` put in force is written past the models, which would ask for its approvals: see `make_approved`.
    """
    values: dict[str, Any] = {
        "override_config": {"severity": "low"},
        "reason": "Legacy code until it is gone.",
        "status": "proposed",
        "created_by": "requester",
        "expires_at": timezone.now() + timedelta(days=30),
    }
    values = {**values, **fields}
    decided = {name: values.pop(name) for name in BOOKKEPT if name in values}
    waiting = decided["status"] in ("draft", "proposed")
    override = GovernanceRuleOverride(
        rule_name=rule_name, status=decided["status"] if waiting else "proposed", **values
    )
    override.save()
    if not waiting or len(decided) > 1:
        models.QuerySet(GovernanceRuleOverride).filter(pk=override.pk).update(**decided)
        history = models.QuerySet(GovernanceRuleOverride.history.model).filter(id=override.pk)
        history.update(**{name: value for name, value in decided.items() if name != "created_at"})
        override = GovernanceRuleOverride.objects.get(pk=override.pk)
    return override


def acting(user: User) -> Any:
    """Everything inside is done by `user`."""
    return originating(Origin(source="system", user=user))


def make_request(rule: AnalysisRule | None = None, *, by: User | None = None, **fields: Any) -> GovernanceRuleOverride:
    """An override that `by`, a rule editor, has asked for."""
    user = by or make_user("rule editor")
    values: dict[str, Any] = {
        "rule_name": fields.get("rule_name") or (rule or make_rule()).name,
        "override_config": {"severity": "low"},
        "reason": "Legacy code until it is gone.",
        "expires_at": timezone.now() + timedelta(days=30),
    }
    with acting(user):
        return approvals.request(user=user, **{**values, **fields})


def approve(override: GovernanceRuleOverride, *, by: User | None = None) -> GovernanceRuleOverride:
    """`override` after one more approval."""
    user = by or make_user("override approver")
    with acting(user):
        return approvals.approve(override=override, user=user, comment="Agreed.")


def make_approved(rule: AnalysisRule | None = None, **fields: Any) -> GovernanceRuleOverride:
    """An override that was asked for and approved as people do it."""
    return approve(make_request(rule, **fields))


def make_governance_rule(name: str = "no-info", **fields: Any) -> GovernanceRule:
    """A stored governance rule that wants no rule to be of severity info."""
    values: dict[str, Any] = {
        "title": "No rule that says nothing",
        "applies_to": {"entity_types": ["analysis_rule"], "change_types": []},
        "condition": "new == null || new.severity != 'info'",
        "message": "Nobody reads findings of severity info.",
        "examples": {"pass": [{"new": {"severity": "low"}}], "fail": [{"new": {"severity": "info"}}]},
    }
    rule = GovernanceRule(name=name, **{**values, **fields})
    rule.save()
    return rule


def make_preset(name: str = "kept", **fields: Any) -> Preset:
    """A saved preset that says nothing."""
    values = {"title": "Kept", "document": f"format: {FORMAT}\npersonas: []\n", "created_by": "somebody"}
    preset = Preset(name=name, **{**values, **fields})
    preset.save()
    return preset


def make_webhook(name: str = "hook", **fields: Any) -> Webhook:
    """A stored webhook of every change."""
    values = {"url": "https://hooks.example.com/changes", "secret": "a secret of the tests", **fields}
    webhook = Webhook(name=name, **values)
    webhook.save()
    return webhook


def make_policy(severity: str = "high", **fields: Any) -> ApprovalPolicy:
    """A stored approval policy that asks for two people."""
    policy = ApprovalPolicy(severity=severity, **{"approvals": 2, **fields})
    policy.save()
    return policy


def make_user(role: str | None = None, *, superuser: bool = False, **fields: Any) -> User:
    """An active staff account with a role of `governance_config.roles`, or with none."""
    username = fields.pop("username", f"user-{next(_numbers)}")
    user = User(username=username, is_staff=True, is_superuser=superuser, **fields)
    user.set_password(PASSWORD)
    user.save()
    if role is not None:
        user.groups.add(Group.objects.get(name=role))
    return user


def api_client(user: User | None = None) -> APIClient:
    """A client of the API, with a token of `user`."""
    client = APIClient()
    if user is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {AuthToken.objects.create(user)[1]}")
    return client
