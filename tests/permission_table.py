"""Who may do what, written down: one row for each route, method and role. `test_permission_table` walks the routes.

A row names who may; everybody else is refused. `seen_by` are those who may know of the object: the others get 404.
`{names}` in a path stand for the examples of `test_permission_table`, by what identifies them in a route.

A new route needs a row in `API`, a new page of the admin one in `ADMIN_PAGES` or `MORE_PAGES`, a new action of the
admin an entry in `actions` of its model's `Pages`, a new kind with rights on single objects an entry in `LISTS`. The
tests name what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

VIEWER, RULES, PLUGINS, PERSONAS, APPROVER, AUDITOR, ADMIN = ROLES = (
    "viewer",
    "rule editor",
    "plugin manager",
    "persona manager",
    "override approver",
    "auditor",
    "administrator",
)
NOBODY = "no role"  # an account without any role
SUPERUSER = "superuser"
ANONYMOUS = "anonymous"
EVERYONE = (*ROLES, NOBODY, SUPERUSER)
CALLERS = (*EVERYONE, ANONYMOUS)


@dataclass(frozen=True)
class Row:
    """One route and method: `may` with `status`, and what the others get."""

    method: str
    path: str
    may: tuple[str, ...]
    status: int = 200
    body: Any = None
    refused: int = 403
    seen_by: tuple[str, ...] = ROLES
    unseen: int = 404
    anonymous: int = 401
    public: bool = False
    superuser: int = 0  # by default, what those get who may
    grant: str | None = None
    """The right on the object of the path that opens this to whoever holds it on that object alone, beside the right to
    view it; "" where rights on single objects open nothing. Rows on kinds with such rights must say."""

    def expect(self, caller: str) -> int:
        """The status that `caller` gets."""
        if self.public:
            return self.status
        if caller == ANONYMOUS:
            return self.anonymous
        if caller == SUPERUSER and self.superuser:
            return self.superuser
        if caller in self.may or caller == SUPERUSER:
            return self.status
        return self.refused if caller in self.seen_by else self.unseen


def read(path: str, *, one: bool = False, may: tuple[str, ...] = ROLES, **more: Any) -> Row:
    """A reading route: of a list refused as a whole, of one object unknown."""
    return Row("GET", path, may, unseen=404 if one else 403, **{"grant": "view" if one else None, **more})


RULE = {
    "name": "new-rule",
    "rule_type": "security",
    "severity": "low",
    "plugin": "patterns",
    "configuration": {"pattern": "x1"},
}
IMPORTERS = (RULES, PLUGINS, PERSONAS, ADMIN)
DOCUMENT = {"format": "code-review-governance/1"}
GOVERNANCE_RULE = {"name": "another", "condition": "new == null", "message": "No.", "enabled": False}
WEBHOOK = {"name": "chat", "url": "https://chat.example.com/", "secret": "a secret of the tests"}
GRANT = {"entity_type": "analysis_rule", "entity_id": "{rule}", "user": "leaver", "permission": "view"}
ACCOUNT = {"username": "newcomer", "password": "quite another long sentence"}
CONFIG = "/api/v1/config"
OVERRIDES = f"{CONFIG}/governance-overrides"
OVERRIDE = {
    "rule_name": "example",
    "override_config": {"severity": "low"},
    "reason": "Legacy code until it is gone.",
    "expires_at": (datetime.now(UTC) + timedelta(days=30)).isoformat(),
}
REVIEWS = "/api/v1/reviews"
API = [
    read(f"{CONFIG}/analysis-rules"),
    Row("POST", f"{CONFIG}/analysis-rules", (RULES, ADMIN), 201, RULE, unseen=403),
    read(f"{CONFIG}/analysis-rules/{{rule}}", one=True),
    Row("PUT", f"{CONFIG}/analysis-rules/{{rule}}", (RULES, ADMIN), body={"severity": "low"}, grant="change"),
    Row("PATCH", f"{CONFIG}/analysis-rules/{{rule}}", (RULES, ADMIN), body={"severity": "low"}, grant="change"),
    Row("DELETE", f"{CONFIG}/analysis-rules/{{rule}}", (RULES, ADMIN), 204, grant="delete"),
    Row(
        "POST",
        f"{CONFIG}/analysis-rules/bulk",
        (RULES, ADMIN),
        body={"updates": [{"id": "{rule}", "severity": "low"}]},
        unseen=400,  # the entry's pointer says that there is no such rule
        grant="change",
    ),
    read(f"{CONFIG}/plugins"),
    read(f"{CONFIG}/plugins/{{plugin}}", one=True),
    Row(
        "PATCH",
        f"{CONFIG}/plugins/{{plugin}}",
        (PLUGINS, ADMIN),
        body={"configuration": {"max_findings_per_file": 7}},
        grant="change",
    ),
    Row("POST", f"{CONFIG}/plugins/{{plugin}}/toggle", (PLUGINS, ADMIN), body={"enabled": False}, grant="toggle"),
    Row("POST", f"{CONFIG}/plugins/{{plugin}}/check", (PLUGINS, ADMIN), grant="change"),
    read(f"{CONFIG}/personas"),
    Row("POST", f"{CONFIG}/personas", (PERSONAS, ADMIN), 201, {"name": "newcomer"}, unseen=403),
    read(f"{CONFIG}/personas/{{idle}}", one=True),
    Row("PUT", f"{CONFIG}/personas/{{idle}}", (PERSONAS, ADMIN), body={"voice": "Calm."}, grant="change"),
    Row("PATCH", f"{CONFIG}/personas/{{idle}}", (PERSONAS, ADMIN), body={"voice": "Calm."}, grant="change"),
    Row("DELETE", f"{CONFIG}/personas/{{idle}}", (PERSONAS, ADMIN), 204, grant="delete"),
    read(f"{CONFIG}/personas/assignments"),
    read(f"{CONFIG}/personas/assignments/{{assignment}}"),
    Row("DELETE", f"{CONFIG}/personas/assignments/{{assignment}}", (PERSONAS, ADMIN), 204, unseen=403),
    Row(
        "PUT",
        f"{CONFIG}/personas/assign",
        (PERSONAS, ADMIN),
        body={"rule_id": "{rule}", "persona_name": "idle"},
        unseen=403,
    ),
    read(f"{CONFIG}/governance-rules"),
    Row("POST", f"{CONFIG}/governance-rules", (ADMIN,), 201, GOVERNANCE_RULE, unseen=403),
    read(f"{CONFIG}/governance-rules/{{governance_rule}}", one=True),
    Row("PUT", f"{CONFIG}/governance-rules/{{governance_rule}}", (ADMIN,), body={"message": "No."}, grant="change"),
    Row("PATCH", f"{CONFIG}/governance-rules/{{governance_rule}}", (ADMIN,), body={"message": "No."}, grant="change"),
    # Whoever may is then asked for a second person (409): there are others who could approve.
    Row("DELETE", f"{CONFIG}/governance-rules/{{governance_rule}}", (ADMIN,), 409, grant="delete"),
    read(f"{CONFIG}/approval-policies"),
    Row("POST", f"{CONFIG}/approval-policies", (ADMIN,), 409, {"severity": "low", "approvals": 3}, unseen=403),
    read(f"{CONFIG}/approval-policies/{{policy}}"),
    Row("PUT", f"{CONFIG}/approval-policies/{{policy}}", (ADMIN,), 409, body={"approvals": 3}, unseen=403),
    Row("PATCH", f"{CONFIG}/approval-policies/{{policy}}", (ADMIN,), 409, body={"approvals": 3}, unseen=403),
    Row("DELETE", f"{CONFIG}/approval-policies/{{policy}}", (ADMIN,), 409, unseen=403),
    read(f"{CONFIG}/webhooks", may=(ADMIN,)),
    Row("POST", f"{CONFIG}/webhooks", (ADMIN,), 201, WEBHOOK, unseen=403),
    read(f"{CONFIG}/webhooks/hook", may=(ADMIN,)),
    Row("PUT", f"{CONFIG}/webhooks/hook", (ADMIN,), body={"enabled": False}, unseen=403),
    Row("PATCH", f"{CONFIG}/webhooks/hook", (ADMIN,), body={"enabled": False}, unseen=403),
    Row("DELETE", f"{CONFIG}/webhooks/hook", (ADMIN,), 204, unseen=403),
    read(f"{CONFIG}/webhooks/hook/deliveries", may=(ADMIN,)),
    # Whoever may is told that the address is refused, which is no error of the request.
    Row("POST", f"{CONFIG}/webhooks/hook/test", (ADMIN,), unseen=403),
    read(f"{OVERRIDES}"),
    read(f"{OVERRIDES}/backlog"),
    read(f"{OVERRIDES}/{{override}}", one=True),
    Row("POST", OVERRIDES, (RULES, ADMIN), 201, OVERRIDE, unseen=403),
    Row("PUT", f"{OVERRIDES}/{{override}}", (RULES, ADMIN), body={"reason": "Until May."}, grant="change"),
    Row("PATCH", f"{OVERRIDES}/{{override}}", (RULES, ADMIN), body={"reason": "Until May."}, grant="change"),
    Row("POST", f"{OVERRIDES}/{{draft}}/propose", (RULES, ADMIN), body={"comment": "Please."}),
    Row("POST", f"{OVERRIDES}/{{override}}/approve", (APPROVER, ADMIN), body={"comment": "Yes."}, grant="approve"),
    Row("POST", f"{OVERRIDES}/{{override}}/reject", (APPROVER, ADMIN), body={"comment": "No."}, grant="approve"),
    # Nobody takes back what somebody else has asked for.
    Row("POST", f"{OVERRIDES}/{{override}}/withdraw", (), body={"comment": "No."}, superuser=403, grant=""),
    Row("POST", f"{OVERRIDES}/{{active}}/revoke", (APPROVER, ADMIN), body={"comment": "Over."}),
    Row("POST", f"{OVERRIDES}/{{emergency}}/confirm", (APPROVER, ADMIN), body={"comment": "Right."}),
    read(f"{CONFIG}/audit-trail", may=(AUDITOR, ADMIN)),
    read(f"{CONFIG}/audit-trail/1", may=(AUDITOR, ADMIN)),
    read(f"{CONFIG}/configuration"),
    read(f"{CONFIG}/changes"),
    read(f"{CONFIG}/configuration?since=0"),
    read(f"{CONFIG}/export", may=(AUDITOR, ADMIN)),
    read(f"{CONFIG}/export/schema", may=EVERYONE),
    Row("POST", f"{CONFIG}/import", IMPORTERS, body={"document": DOCUMENT, "mode": "plan"}, unseen=403),
    read(f"{CONFIG}/presets"),
    Row("POST", f"{CONFIG}/presets", (ADMIN,), 201, {"name": "mine"}, unseen=403),
    read(f"{CONFIG}/presets/{{preset}}"),
    Row("DELETE", f"{CONFIG}/presets/{{preset}}", (ADMIN,), 204, unseen=403),
    read(f"{CONFIG}/presets/{{preset}}/compare?with=starter"),
    Row("POST", f"{CONFIG}/presets/{{preset}}/plan", IMPORTERS, unseen=403),
    Row("POST", f"{CONFIG}/presets/{{preset}}/apply", IMPORTERS, unseen=403),
    Row("POST", f"{CONFIG}/rollback", (AUDITOR, ADMIN), body={"change": 1, "mode": "plan"}, unseen=403),
    read(f"{CONFIG}/grants", may=(ADMIN,)),
    Row("POST", f"{CONFIG}/grants", (ADMIN,), 409, GRANT, unseen=403),
    # There is none to take away: who may learns so.
    Row("DELETE", f"{CONFIG}/grants", (ADMIN,), 404, GRANT, unseen=403),
    read(f"{CONFIG}/users", may=(ADMIN,)),
    Row("POST", f"{CONFIG}/users", (ADMIN,), 201, ACCOUNT, unseen=403),
    read(f"{CONFIG}/users/leaver", may=(ADMIN,)),
    Row("PUT", f"{CONFIG}/users/leaver", (ADMIN,), body={"first_name": "Ada"}, unseen=403),
    Row("PATCH", f"{CONFIG}/users/leaver", (ADMIN,), 409, body={"roles": ["viewer"]}, unseen=403),
    Row("DELETE", f"{CONFIG}/users/leaver", (ADMIN,), 204, unseen=403),
    read(f"{CONFIG}/roles", may=(ADMIN,)),
    read(f"{CONFIG}/roles/viewer", may=(ADMIN,)),
    read(f"{CONFIG}/ui-state", may=EVERYONE),
    Row("PUT", f"{CONFIG}/ui-state/board", EVERYONE, body={"configuration": {"wide": True}}),
    Row("GET", f"{CONFIG}/ui-state/board", EVERYONE, 404),
    Row("DELETE", f"{CONFIG}/ui-state/board", EVERYONE, 404),
    read("/api/v1/me", may=EVERYONE),
    read("/api/v1/me/notifications", may=EVERYONE),
    Row("POST", "/api/v1/me/notifications/read", EVERYONE, body={}),
    Row("POST", "/api/v1/auth/token", (), 400, {}, public=True),
    Row("DELETE", "/api/v1/auth/token", EVERYONE, 204),
    read(f"{REVIEWS}/sessions"),
    # Whoever may start reviews is told that the folder lies elsewhere.
    Row("POST", f"{REVIEWS}/sessions", (RULES, ADMIN), 400, {"root": "/nowhere"}, unseen=403),
    read(f"{REVIEWS}/sessions/{{session}}"),
    Row("DELETE", f"{REVIEWS}/sessions/{{session}}", (ADMIN,), 204, unseen=403),
    Row("POST", f"{REVIEWS}/sessions/{{queued}}/cancel", (RULES, ADMIN), unseen=403),
    read(f"{REVIEWS}/sessions/{{session}}/compare?with={{before}}"),
    read(f"{REVIEWS}/sessions/{{session}}/issues"),
    read(f"{REVIEWS}/sessions/{{session}}/issues/{{issue}}"),
    read(f"{REVIEWS}/findings"),
    read(f"{REVIEWS}/findings/{{finding}}"),
    Row(
        "POST",
        f"{REVIEWS}/findings/triage",
        (RULES, ADMIN),
        body={"ids": ["{finding}"], "triage": "acknowledged"},
        unseen=403,
    ),
    read(f"{REVIEWS}/codebases"),
    read(f"{REVIEWS}/codebases/{{codebase}}"),
    read(f"{REVIEWS}/prompts"),
    read(f"{REVIEWS}/prompts/{{prompt}}"),
    Row("PATCH", f"{REVIEWS}/prompts/{{prompt}}", (RULES, ADMIN), body={"status": "ready"}, unseen=403),
    read(f"{REVIEWS}/prompts/{{prompt}}/file"),
    read("/api/v1/schema", public=True),
    read("/api/v1/schema.json", public=True),
    read("/api/v1/docs", public=True),
    Row("GET", "/", (), 302, public=True),
    read("/favicon.ico", public=True),
    read("/healthz", public=True),
    read("/readyz", public=True),
    Row("GET", "/metrics", (AUDITOR, ADMIN), unseen=403),
    read("/problems/not-found", public=True),
]


LISTS = {
    "rule": f"{CONFIG}/analysis-rules",
    "plugin": f"{CONFIG}/plugins",
    "idle": f"{CONFIG}/personas",
    "governance_rule": f"{CONFIG}/governance-rules",
    "override": f"{CONFIG}/governance-overrides",
}
"""Kinds with rights on single objects, by their example, and where they are listed."""


@dataclass(frozen=True)
class Pages:
    """The admin pages of one model: who may do what there. What nobody may do is empty."""

    model: str
    example: str
    view: tuple[str, ...]
    add: tuple[str, ...] = ()
    change: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    history: bool = True  # whether the journal tells of these objects
    actions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of the list → who is offered it


def offer(*names: str, to: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Actions that are all offered to the same roles."""
    return dict.fromkeys(names, to)


TRIAGE = offer(*(f"triage_{name}" for name in "open acknowledged false_positive wont_fix".split()), to=(RULES, ADMIN))
STATUSES = offer(*(f"status_{name}" for name in "draft ready exported used dismissed".split()), to=(RULES, ADMIN))

ADMIN_PAGES = [
    Pages(
        *("rules.analysisrule", "rule", ROLES, (RULES, ADMIN), (RULES, ADMIN), (RULES, ADMIN)),
        actions=offer("enable", "disable", "set_severity", "delete_selected", to=(RULES, ADMIN)),
    ),
    Pages(
        *("plugins.plugin", "plugin", ROLES, (), (PLUGINS, ADMIN)),
        actions=offer("enable", "disable", "check_now", to=(PLUGINS, ADMIN)),
    ),
    Pages(
        *("personas.persona", "idle", ROLES, (PERSONAS, ADMIN), (PERSONAS, ADMIN), (PERSONAS, ADMIN)),
        actions=offer("delete_selected", to=(PERSONAS, ADMIN)),
    ),
    Pages(
        *("personas.personaruleassignment", "assignment", ROLES),
        *((PERSONAS, ADMIN), (PERSONAS, ADMIN), (PERSONAS, ADMIN)),
        actions=offer("end", "delete_selected", to=(PERSONAS, ADMIN)),
    ),
    Pages(
        *("overrides.governanceruleoverride", "override", ROLES, (RULES, ADMIN), (RULES, ADMIN)),
        actions=offer("approve", "reject", to=(APPROVER, ADMIN)),
    ),
    Pages(
        *("overrides.approvalpolicy", "policy", ROLES, (ADMIN,), (ADMIN,), (ADMIN,)),
        actions=offer("delete_selected", to=(ADMIN,)),
    ),
    Pages(
        *("overrides.governancerule", "governance_rule", ROLES, (ADMIN,), (ADMIN,), (ADMIN,)),
        actions=offer("enable", "disable", "delete_selected", to=(ADMIN,)),
    ),
    Pages(
        *("overrides.webhook", "webhook", (ADMIN,), (ADMIN,), (ADMIN,), (ADMIN,)),
        actions=offer("enable", "disable", "send_test", "delete_selected", to=(ADMIN,)),
    ),
    Pages(
        *("reviews.reviewsession", "session", ROLES, (), (), (ADMIN,)),
        history=False,
        actions=offer("delete_selected", to=(ADMIN,)),
    ),
    Pages("reviews.discoveredissue", "issue", ROLES, history=False, actions=TRIAGE),
    Pages("reviews.trackedfinding", "finding", ROLES, history=False, actions=TRIAGE),
    Pages("reviews.copilotprompt", "prompt", ROLES, history=False, actions=STATUSES),
    Pages("audit.configurationauditlog", "change", (AUDITOR, ADMIN)),
    Pages(
        *("governance_config.preset", "preset", ROLES, (ADMIN,), (), (ADMIN,)),
        history=False,
    ),
    Pages("auth.user", "user", (ADMIN,), (ADMIN,), (ADMIN,), (ADMIN,)),
    Pages("auth.group", "group", (ADMIN,), history=False),
]


@dataclass(frozen=True)
class Page:
    """A page of the admin beside those of `Pages`: who may, and with what status. Others get 403."""

    method: str
    path: str
    may: tuple[str, ...]
    status: int = 200
    body: Any = None
    refused: int = 403
    superuser: int = 0  # by default, what those get who may

    def expect(self, caller: str) -> tuple[int, ...]:
        """The statuses that `caller` may get."""
        if caller == SUPERUSER:
            return (self.superuser or self.status,)
        return (self.status,) if caller in self.may else (self.refused, 403, 404)


SESSIONS = "/admin/reviews/reviewsession"
PRESETS = "/admin/governance_config/preset"
DECIDE = "/admin/overrides/governanceruleoverride"
MORE_PAGES = [
    Page("GET", f"{DECIDE}/notifications/", EVERYONE),
    Page("POST", f"{DECIDE}/notifications/", EVERYONE, 302),
    # Others are told why not, on the override's page.
    *(
        Page("GET", f"{DECIDE}/{{override}}/decide/{verb}/", (APPROVER, ADMIN), refused=302)
        for verb in ("approve", "reject")
    ),
    Page("GET", f"{DECIDE}/{{emergency}}/decide/confirm/", (APPROVER, ADMIN), refused=302),
    Page("GET", f"{DECIDE}/{{active}}/decide/revoke/", (APPROVER, ADMIN), refused=302),
    Page("GET", f"{DECIDE}/{{draft}}/decide/propose/", (RULES, ADMIN), refused=302),
    Page("GET", f"{DECIDE}/{{override}}/decide/withdraw/", (), superuser=302, refused=302),
    Page("GET", f"{PRESETS}/import/", IMPORTERS),
    Page("POST", f"{PRESETS}/import/", IMPORTERS, body={"text": "format: code-review-governance/1"}),
    Page("GET", f"{PRESETS}/{{preset}}/plan/", IMPORTERS),
    Page("POST", f"{PRESETS}/{{preset}}/plan/", IMPORTERS, 302, {"change_reason": "because"}),
    Page("GET", f"{PRESETS}/{{preset}}/compare/?with=starter", ROLES),
    Page("GET", f"{SESSIONS}/start/", (RULES, ADMIN)),
    Page("POST", f"{SESSIONS}/start/", (RULES, ADMIN), body={"root": "/nowhere"}),
    Page("POST", f"{SESSIONS}/{{queued}}/cancel/", (RULES, ADMIN), 302),
    Page("GET", f"{SESSIONS}/{{session}}/compare/", ROLES),
    Page(
        "POST",
        "/admin/reviews/discoveredissue/{issue}/change/",
        (RULES, ADMIN),
        302,
        {"triage": "acknowledged"},
    ),
    Page(
        "POST",
        "/admin/reviews/trackedfinding/{finding}/change/",
        (RULES, ADMIN),
        302,
        {"triage": "acknowledged"},
    ),
    Page("POST", "/admin/reviews/copilotprompt/{prompt}/change/", (RULES, ADMIN), 302, {"status": "ready"}),
]
