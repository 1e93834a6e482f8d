"""Which role may do what? One table: a role is a group, synced after every migration, each change of it journalled."""

from __future__ import annotations

from typing import Any

from audit.permissions import sync_roles

VIEW = [
    "rules.view_analysisrule",
    "plugins.view_plugin",
    "personas.view_persona",
    "personas.view_personaruleassignment",
    "overrides.view_governancerule",
    "overrides.view_governanceruleoverride",
    "overrides.view_approvalpolicy",
    "overrides.view_configuration",
    "reviews.view_reviewsession",
    "reviews.view_codebase",
    "reviews.view_discoveredissue",
    "reviews.view_trackedfinding",
    "reviews.view_copilotprompt",
    "governance_config.view_preset",
]

RULES = ["rules.add_analysisrule", "rules.change_analysisrule", "rules.delete_analysisrule"]
PLUGINS = ["plugins.change_plugin", "plugins.toggle_plugin"]
PERSONAS = [
    "personas.add_persona",
    "personas.change_persona",
    "personas.delete_persona",
    "personas.add_personaruleassignment",
    "personas.change_personaruleassignment",
    "personas.delete_personaruleassignment",
]
GOVERNANCE = ["overrides.add_governancerule", "overrides.change_governancerule", "overrides.delete_governancerule"]
OVERRIDE_REQUESTS = ["overrides.add_governanceruleoverride", "overrides.change_governanceruleoverride"]
APPROVALS = ["overrides.approve_governanceruleoverride"]
POLICY = ["overrides.add_approvalpolicy", "overrides.change_approvalpolicy", "overrides.delete_approvalpolicy"]
WEBHOOKS = [f"overrides.{action}_webhook" for action in ("view", "add", "change", "delete")]
EMERGENCY = ["overrides.break_glass"]
JOURNAL = ["audit.view_configurationauditlog", "overrides.export_configuration"]
ACCOUNTS = ["auth.view_user", "auth.add_user", "auth.change_user", "auth.delete_user", "auth.view_group"]
IMPORT = ["overrides.import_configuration"]  # opens the door; what a document changes needs its own rights
PRESETS = ["governance_config.add_preset", "governance_config.delete_preset"]
REVIEWS = ["reviews.run_reviewsession"]
TRIAGE = ["reviews.triage_trackedfinding", "reviews.change_copilotprompt"]

ROLES: dict[str, list[str]] = {
    "viewer": VIEW,
    "rule editor": VIEW + RULES + OVERRIDE_REQUESTS + REVIEWS + TRIAGE + IMPORT,
    "plugin manager": VIEW + PLUGINS + IMPORT,
    "persona manager": VIEW + PERSONAS + IMPORT,
    "override approver": VIEW + APPROVALS,
    "auditor": VIEW + JOURNAL,
    "administrator": [
        *VIEW,
        *RULES,
        *PLUGINS,
        *PERSONAS,
        *GOVERNANCE,
        *OVERRIDE_REQUESTS,
        *APPROVALS,
        *POLICY,
        *WEBHOOKS,
        *EMERGENCY,
        *JOURNAL,
        *ACCOUNTS,
        *REVIEWS,
        *TRIAGE,
        "reviews.delete_reviewsession",
        *IMPORT,
        *PRESETS,
    ],
}


def sync_after_migrate(**_: Any) -> None:
    """Make the groups hold what the table says."""
    sync_roles(ROLES)
