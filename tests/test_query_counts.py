"""How many statements does each endpoint take? The same with 10 rules and with 10,000, and as `query_counts.json` says.

    UPDATE_QUERY_COUNTS=1 .venv/bin/python -m pytest tests/test_query_counts.py

rewrites the file, on purpose.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import ConfigurationAuditLog
from overrides import effective
from personas.models import PersonaRuleAssignment
from reviews.models import CopilotPrompt, DiscoveredIssue, ReviewSession, TrackedFinding
from rules.models import AnalysisRule
from tests.factories import api_client, build_rule, make_override, make_persona, make_rule, make_user
from tests.review_factories import build_finding, build_issue, build_prompt, make_issue, make_session

pytestmark = pytest.mark.django_db

FILE = Path(__file__).parent / "query_counts.json"
CONFIG = "/api/v1/config"
FEW, MANY = 10, 10_000
REVIEWED = "/api/v1/reviews"
REVIEWS = 12


def fill_database(count: int) -> list[AnalysisRule]:
    """`count` rules with a persona each, written past the kernel because only their number matters here."""
    make_persona("security")
    make_persona("guest", rule_types=[])
    first = make_rule(name="first")
    make_override(first.name)
    rules = models.QuerySet(AnalysisRule).bulk_create(
        [build_rule(name=f"mass-{number}", version=1) for number in range(count - 1)], batch_size=500
    )
    models.QuerySet(PersonaRuleAssignment).bulk_create(
        [PersonaRuleAssignment(rule=rule, persona_id="security", created_by="system") for rule in rules], batch_size=500
    )
    return [first, *rules]


def fill_reviews(count: int) -> ReviewSession:
    """Reviews of a codebase with `count` findings between them, the last of which has most, and as many prompts."""
    for _ in range(REVIEWS):
        session = make_session()
    codebase = session.tracked_codebase
    findings = TrackedFinding.objects.bulk_create(
        [build_finding(codebase, last_session=session) for _ in range(count)], batch_size=500
    )
    DiscoveredIssue.objects.bulk_create([build_issue(session, finding) for finding in findings], batch_size=500)
    make_issue(ReviewSession.objects.earliest("id"), findings[0])
    CopilotPrompt.objects.bulk_create([build_prompt(session) for _ in range(count)], batch_size=500)
    return session


def measure(count: int) -> dict[str, int]:
    """Statements of each endpoint, with `count` rules. Savepoints of the test's own transaction are not counted."""
    rules = fill_database(count)
    session = fill_reviews(count)
    before, issue = ReviewSession.objects.earliest("id"), session.issues.first()
    finding, prompt = issue.finding, session.prompts.first()
    reviews = f"{REVIEWED}/sessions/{session.pk}"
    user = make_user("administrator")
    api, admin = api_client(user), Client()
    admin.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    rule, assignment = rules[0].pk, PersonaRuleAssignment.objects.first().pk
    revision = ConfigurationAuditLog.objects.first().revision
    bulk = {"updates": [{"id": item.pk, "severity": "low"} for item in rules[:FEW]]}
    some = list(TrackedFinding.objects.values_list("pk", flat=True)[: FEW // 2])
    triage = {"ids": some, "triage": "wont_fix", "reason": "Legacy."}
    assign = {"rule_id": rule, "persona_name": "guest"}

    def read_cold(path: str) -> Any:
        effective._kept = None
        return api.get(path)

    requests = {
        "list rules": lambda: api.get(f"{CONFIG}/analysis-rules?limit=5"),
        "search rules": lambda: api.get(f"{CONFIG}/analysis-rules?search=eval&min_severity=low&limit=5"),
        "get rule": lambda: api.get(f"{CONFIG}/analysis-rules/{rule}"),
        "list plugins": lambda: api.get(f"{CONFIG}/plugins"),
        "list personas": lambda: api.get(f"{CONFIG}/personas"),
        "get persona": lambda: api.get(f"{CONFIG}/personas/guest"),
        "list assignments": lambda: api.get(f"{CONFIG}/personas/assignments?limit=5"),
        "list overrides": lambda: api.get(f"{CONFIG}/governance-overrides"),
        "audit trail": lambda: api.get(f"{CONFIG}/audit-trail?limit=5"),
        "audit trail from a cursor": lambda: api.get(f"{CONFIG}/audit-trail?limit=5&before={revision}"),
        "configuration, cold": lambda: read_cold(f"{CONFIG}/configuration"),
        "configuration, warm": lambda: api.get(f"{CONFIG}/configuration"),
        "configuration, unchanged": lambda: api.get(f"{CONFIG}/configuration", headers={"If-None-Match": "*"}),
        "configuration since": lambda: api.get(f"{CONFIG}/configuration?since={revision - 1}"),
        "configuration as it was": lambda: api.get(f"{CONFIG}/configuration?revision={revision}"),
        "update rule": lambda: api.put(f"{CONFIG}/analysis-rules/{rule}", {"severity": "low"}),
        "configuration, one edit": lambda: api.get(f"{CONFIG}/configuration"),
        "update rule, no change": lambda: api.put(f"{CONFIG}/analysis-rules/{rule}", {"severity": "low"}),
        "bulk of 10": lambda: api.post(f"{CONFIG}/analysis-rules/bulk", bulk),
        "toggle plugin": lambda: api.post(f"{CONFIG}/plugins/secrets/toggle", {"enabled": False}),
        "assign persona": lambda: api.put(f"{CONFIG}/personas/assign", assign),
        "end assignment": lambda: api.delete(f"{CONFIG}/personas/assignments/{assignment}"),
        "create rule": lambda: api.post(f"{CONFIG}/analysis-rules", new_rule()),
        "delete rule": lambda: api.delete(f"{CONFIG}/analysis-rules/{rules[1].pk}"),
        "me": lambda: api.get("/api/v1/me"),
        "admin: index": lambda: admin.get("/admin/"),
        "admin: rules": lambda: admin.get("/admin/rules/analysisrule/?plugin__name=none"),
        "admin: rule": lambda: admin.get(f"/admin/rules/analysisrule/{rule}/change/"),
        "list sessions": lambda: api.get(f"{REVIEWED}/sessions?limit=5"),
        "get session": lambda: api.get(reviews),
        "compare sessions": lambda: api.get(f"{reviews}/compare?with={before.pk}&limit=5"),
        "list issues": lambda: api.get(f"{reviews}/issues?limit=5&min_severity=low&triage=open"),
        "get issue": lambda: api.get(f"{reviews}/issues/{issue.pk}"),
        "list findings": lambda: api.get(f"{REVIEWED}/findings?limit=5&codebase=shop"),
        "get finding": lambda: api.get(f"{REVIEWED}/findings/{finding.pk}"),
        "list codebases": lambda: api.get(f"{REVIEWED}/codebases"),
        "list prompts": lambda: api.get(f"{REVIEWED}/prompts?limit=5"),
        "get prompt": lambda: api.get(f"{REVIEWED}/prompts/{prompt.pk}"),
        "triage of 5": lambda: api.post(f"{REVIEWED}/findings/triage", triage),
        "admin: sessions": lambda: admin.get("/admin/reviews/reviewsession/"),
        "admin: session": lambda: admin.get(f"/admin/reviews/reviewsession/{session.pk}/change/"),
        "admin: issues": lambda: admin.get(f"/admin/reviews/discoveredissue/?session__id__exact={session.pk}"),
        "admin: issue": lambda: admin.get(f"/admin/reviews/discoveredissue/{issue.pk}/change/"),
        "admin: findings": lambda: admin.get("/admin/reviews/trackedfinding/"),
        "admin: compare": lambda: admin.get(f"/admin/reviews/reviewsession/{session.pk}/compare/?with={before.pk}"),
        "admin: prompts": lambda: admin.get("/admin/reviews/copilotprompt/"),
        "admin: journal": lambda: admin.get("/admin/audit/configurationauditlog/"),
    }
    counts = {}
    for name, request in requests.items():
        ContentType.objects.clear_cache()
        with CaptureQueriesContext(connection) as captured:
            response = request()
        assert response.status_code < 400, (name, response.content)
        counts[name] = sum("SAVEPOINT" not in query["sql"] for query in captured)
    return counts


def new_rule() -> dict[str, Any]:
    return {"name": "brand-new", "rule_type": "security", "severity": "low", "configuration": {"pattern": "x1"}}


@pytest.mark.slow
@pytest.mark.parametrize("count", [FEW, MANY])
def test_each_endpoint_takes_the_statements_that_the_file_says(count):
    counts = measure(count)
    if os.environ.get("UPDATE_QUERY_COUNTS") == "1":
        FILE.write_text(json.dumps({**stored_counts(), connection.vendor: counts}, indent=2, sort_keys=True) + "\n")
    assert counts == stored_counts()[connection.vendor]


def stored_counts() -> dict[str, dict[str, int]]:
    return json.loads(FILE.read_text()) if FILE.exists() else {}
