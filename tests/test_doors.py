"""Every governed model through the doors that people use: API, admin form, admin action. One record, whichever door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client

from audit.governed import GovernedModel, governed_models
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from overrides.models import ApprovalPolicy, GovernanceRule, GovernanceRuleOverride, Webhook
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.admin_client import address, sign_in, submit
from tests.factories import (
    api_client,
    make_assignment,
    make_governance_rule,
    make_persona,
    make_plugins,
    make_policy,
    make_request,
    make_rule,
    make_user,
    make_webhook,
)

pytestmark = pytest.mark.django_db

CONFIG = "/api/v1/config"
REASON = "The incident of last week."
AGENT = "probe/1.0"


def make_switchable_plugin() -> Plugin:
    make_plugins()
    return Plugin.objects.get(name="secrets")


def make_assigned() -> PersonaRuleAssignment:
    return make_assignment(make_rule(), make_persona("performance", rule_types=[]))


@dataclass(frozen=True)
class Entry:
    """A model at its doors. None where a door does not offer it; then the door must refuse."""

    model: type[GovernedModel]
    make: Callable[[], GovernedModel]
    route: Callable[[Any], str]
    change: dict[str, Any] | None
    admin_change: dict[str, Any] | None
    expected: dict[str, Any]
    updated: str
    deleted: str | None
    api_delete: bool = True


ENTRIES = [
    Entry(
        GovernanceRule,
        make_governance_rule,
        lambda rule: f"{CONFIG}/governance-rules/{rule.pk}",
        {"message": "No."},
        {"message": "No."},
        {"message": "No."},
        "governance_rule_updated",
        "governance_rule_deleted",
    ),
    Entry(
        AnalysisRule,
        make_rule,
        lambda rule: f"{CONFIG}/analysis-rules/{rule.pk}",
        {"severity": "low"},
        {"severity": "low"},
        {"severity": "low"},
        "rule_updated",
        "rule_deleted",
    ),
    Entry(
        Plugin,
        make_switchable_plugin,
        lambda plugin: f"{CONFIG}/plugins/{plugin.name}",
        {"enabled": False},
        {"enabled": None},
        {"enabled": False},
        "plugin_toggled",
        None,
        api_delete=False,
    ),
    Entry(
        Persona,
        lambda: make_persona("idle", rule_types=[]),
        lambda persona: f"{CONFIG}/personas/{persona.name}",
        {"voice": "Calm."},
        {"voice": "Calm."},
        {"voice": "Calm."},
        "persona_updated",
        "persona_deleted",
    ),
    Entry(
        PersonaRuleAssignment,
        make_assigned,
        lambda assignment: f"{CONFIG}/personas/assignments/{assignment.pk}",
        None,
        {"assignment_reason": "Knows it best."},
        {"assignment_reason": "Knows it best."},
        "persona_assignment_updated",
        "persona_unassigned",
    ),
    Entry(
        ApprovalPolicy,
        make_policy,
        lambda policy: f"{CONFIG}/approval-policies/{policy.pk}",
        {"approvals": 3},
        {"approvals": "3"},
        {"approvals": 3},
        "approval_policy_updated",
        "approval_policy_deleted",
    ),
    Entry(
        Webhook,
        make_webhook,
        lambda webhook: f"{CONFIG}/webhooks/{webhook.name}",
        {"filter_types": ["rule_updated"]},
        {"filter_types": '["rule_updated"]'},
        {"filter_types": ["rule_updated"]},
        "webhook_updated",
        "webhook_deleted",
    ),
    Entry(
        GovernanceRuleOverride,
        make_request,
        lambda override: f"{CONFIG}/governance-overrides/{override.pk}",
        {"paths": ["legacy/**"]},
        {"paths": "legacy/**"},
        {"paths": ["legacy/**"]},
        "override_updated",
        None,
        api_delete=False,
    ),
]
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.model.__name__)


def rows_since(revision: int) -> list[ConfigurationAuditLog]:
    return list(ConfigurationAuditLog.objects.filter(revision__gt=revision).order_by("revision"))


def check_row(row: ConfigurationAuditLog, *, user: Any, source: str, change_type: str, old: Any, new: Any) -> None:
    assert row.change_type == change_type
    assert (row.old_config, row.new_config) == (old, new)
    assert (row.changed_by, row.actor_kind, row.actor_id) == (user.username, "user", str(user.pk))
    assert (row.source, row.ip_address, row.change_reason) == (source, "127.0.0.1", REASON)


def test_every_governed_model_is_here():
    assert {entry.model for entry in ENTRIES} == set(governed_models())


@each_entry
def test_the_api_changes_an_object_with_one_record(entry):
    item, user = entry.make(), make_user("administrator")
    client = api_client(user)
    before, old = current_revision(), item.document()
    if entry.change is None:
        assert client.patch(entry.route(item), {"reason": "x"}).status_code == 405
        assert current_revision() == before
        return
    response = client.patch(entry.route(item), {**entry.change, "change_reason": REASON}, headers={"User-Agent": AGENT})
    assert response.status_code == 200, response.content
    (row,) = rows_since(before)
    check_row(row, user=user, source="api", change_type=entry.updated, old=old, new={**old, **entry.expected})
    assert row.user_agent == AGENT
    assert response["X-Revision"] == str(row.revision)
    assert response["ETag"] == f'"{row.revision}"'


@each_entry
def test_the_api_deletes_an_object_with_one_record(entry):
    item, user = entry.make(), make_user("administrator")
    client = api_client(user)
    before, old = current_revision(), item.document()
    response = client.delete(entry.route(item), headers={"X-Change-Reason": REASON})
    if not entry.api_delete:
        assert response.status_code == 405
        assert current_revision() == before
        return
    # An administrator alone is told that nobody else could approve the end of a governance rule.
    assert response.status_code == (200 if entry.model in (GovernanceRule, ApprovalPolicy) else 204), response.content
    (row,) = [row for row in rows_since(before) if row.entity_type == entry.model.entity_type]
    # Ending an assignment keeps its row, inactive.
    new = {**old, "is_active": False} if entry.model is PersonaRuleAssignment else None
    check_row(row, user=user, source="api", change_type=entry.deleted, old=old, new=new)


@each_entry
def test_the_admin_form_changes_an_object_with_one_record(entry):
    item, user = entry.make(), make_user("administrator")
    client = sign_in(user)
    before, old = current_revision(), item.document()
    if entry.admin_change is None:
        refused = client.post(address("change", item), {"change_reason": REASON, "reason": "x"})
        assert refused.status_code == 403
        assert current_revision() == before
        return
    response = submit(client, address("change", item), reason=REASON, **entry.admin_change)
    assert response.status_code == 302, response.context["adminform"].form.errors
    (row,) = rows_since(before)
    check_row(row, user=user, source="admin", change_type=entry.updated, old=old, new={**old, **entry.expected})


@each_entry
def test_the_admin_deletes_an_object_with_one_record(entry):
    item, user = entry.make(), make_user("administrator")
    client = sign_in(user)
    before, old = current_revision(), item.document()
    response = client.post(address("delete", item), {"post": "yes", "change_reason": REASON})
    if entry.deleted is None:
        assert response.status_code == 403
        assert current_revision() == before
        return
    assert response.status_code == 302
    (row,) = [row for row in rows_since(before) if row.entity_type == entry.model.entity_type]
    check_row(row, user=user, source="admin", change_type=entry.deleted, old=old, new=None)


@each_entry
def test_the_admins_delete_selected_leaves_a_record_for_each(entry):
    item, user = entry.make(), make_user("administrator")
    client = sign_in(user)
    before, old = current_revision(), item.document()
    form = {"action": "delete_selected", "_selected_action": [str(item.pk)], "post": "yes", "change_reason": REASON}
    client.post(address("changelist", item), form)
    rows = [row for row in rows_since(before) if row.entity_type == entry.model.entity_type]
    if entry.deleted is None:
        assert rows == []
        assert entry.model.objects.filter(pk=item.pk).exists()
        return
    check_row(rows[0], user=user, source="admin", change_type=entry.deleted, old=old, new=None)
    assert len(rows) == 1


@each_entry
def test_both_doors_ask_for_rights(entry):
    item, viewer = entry.make(), make_user("viewer")
    before, stored = current_revision(), item.document()
    api, admin = api_client(viewer), sign_in(viewer)
    before = current_revision()
    assert api.patch(entry.route(item), entry.change or {}).status_code in (403, 405)
    assert api.delete(entry.route(item)).status_code in (403, 405)
    assert admin.post(address("change", item), {"change_reason": REASON}).status_code == 403
    assert admin.post(address("delete", item), {"post": "yes", "change_reason": REASON}).status_code == 403
    assert Client().post(address("change", item), {"change_reason": REASON}).status_code == 302
    assert current_revision() == before
    assert entry.model.objects.get(pk=item.pk).document() == stored


def test_an_edit_in_the_admin_is_seen_by_api_command_and_journal():
    """The walk of an edit, from the form to everybody who reads."""
    rule, editor = make_rule(), make_user("rule editor")
    api = api_client(editor)
    assert find_rule(api, rule)["severity"] == "high"
    submit(sign_in(editor), address("change", rule), reason=REASON, severity="critical")
    assert find_rule(api, rule)["severity"] == "critical"
    assert api.get(f"{CONFIG}/analysis-rules/{rule.pk}").json()["severity"] == "critical"
    trail = api_client(make_user("auditor")).get(f"{CONFIG}/audit-trail?entity_type=analysis_rule&limit=1").json()
    (row,) = trail["results"]
    assert (row["changed_by"], row["source"], row["change_reason"]) == (editor.username, "admin", REASON)
    assert (row["old_config"]["severity"], row["new_config"]["severity"]) == ("high", "critical")


def find_rule(client: Any, rule: AnalysisRule) -> dict[str, Any]:
    return next(item for item in client.get(f"{CONFIG}/configuration").json()["rules"] if item["name"] == rule.name)
