"""The description of the API agrees with what was promised: routes, methods and fields, as a literal table."""

import json
import re

import jsonschema
import pytest
import yaml
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from audit.permissions import grant
from governance_config.documentation import write_document
from overrides.models import GovernanceRule, GovernanceRuleOverride, Notification
from personas.models import PersonaRuleAssignment
from reviews.models import CopilotPrompt, ReviewSession, TrackedFinding
from rules.models import AnalysisRule
from tests.factories import (
    api_client,
    make_governance_rule,
    make_override,
    make_persona,
    make_policy,
    make_rule,
    make_user,
    make_webhook,
)
from tests.review_factories import make_finding, make_issue, make_prompt, make_session

CONFIG = "/api/v1/config"
RULE = """id name title description rule_type severity plugin configuration file_types file_patterns exclude_patterns
    message remediation references tags status examples enabled personas version created_at updated_at"""
RULE_FILTERS = "rule_type severity min_severity enabled plugin persona tag status file_type"
PLUGIN = "name title version enabled configuration configuration_schema requires required_by health"
PERSONA = "name title description voice rule_types assignment_count assignments version"
GOVERNANCE_RULE = "name title applies_to condition message enforcement enabled examples version"
OVERRIDE = """rule_name target_type override_config original_config paths reason expires_at status created_by
    approved_by approvals decisions break_glass needs_review in_force version"""
OVERRIDE_FILTERS = "status rule_name created_by approved_by expires_before waiting_for_me break_glass needs_review"
WEBHOOK = "id name url secret filter_types entity_types enabled version"
DELIVERY = "id revision change_type status attempts response_code duration_ms error attempted_at next_attempt_at"
POLICY = "id severity approvals max_days version"
CHANGE = """revision change_type entity_type entity_id entity_name old_config new_config changed_by actor_kind
    change_reason source batch ip_address user_agent created_at"""
CHANGE_FILTERS = "filter_type entity_type entity_id changed_by batch since until before"
ASSIGNMENT = "rule_id rule_name persona_name confidence_score assignment_reason"
STATE = "component_name configuration last_updated"
PLAN = "revision counts steps implied warnings problems"
PRESET = "name title description shipped created_by created_at"
USER = "id username first_name last_name email is_active is_staff is_superuser roles last_login date_joined"
GRANT = "entity_type entity_id entity_name user role permission"
LIST = "skip limit search"
REVIEWS = "/api/v1/reviews"
SESSION = """id codebase codebase_id root revision status waiting scope exclude started_by started_at finished_at
    files_done files_total files_analyzed files_skipped rules_run counts failures plugin_runs cancel_requested"""
ISSUE = """id finding key state triage rule_name rule_type severity plugin personas path start_line start_column
    end_line end_column message snippet suppressed suppression_reason suppressed_until"""
FINDING = """id key codebase codebase_id rule_name rule_type severity path line message presence suppressed triage
    triage_reason triaged_by triaged_at first_session last_session first_seen_at last_seen_at resolved_at"""
FINDING_FILTERS = "rule_name rule_type severity min_severity triage suppressed path"
PROMPT = "id session codebase name title persona status severity rule_names finding_keys paths revision"

# route, method, status, fields of the answer (of each result of a list), query parameters
PROMISES = [
    ("/api/v1/auth/token", "post", 201, "token expiry", ""),
    ("/api/v1/auth/token", "delete", 204, "", ""),
    (f"{CONFIG}/analysis-rules", "get", 200, RULE, f"{LIST} ordering {RULE_FILTERS}"),
    (f"{CONFIG}/analysis-rules", "post", 201, RULE, ""),
    (f"{CONFIG}/analysis-rules/{{id}}", "get", 200, RULE, ""),
    (f"{CONFIG}/analysis-rules/{{id}}", "put", 200, RULE, ""),
    (f"{CONFIG}/analysis-rules/{{id}}", "patch", 200, RULE, ""),
    (f"{CONFIG}/analysis-rules/{{id}}", "delete", 204, "", ""),
    (f"{CONFIG}/analysis-rules/bulk", "post", 200, "applied results", ""),
    (f"{CONFIG}/plugins", "get", 200, PLUGIN, LIST),
    (f"{CONFIG}/plugins/{{name}}", "get", 200, PLUGIN, ""),
    (f"{CONFIG}/plugins/{{name}}", "patch", 200, PLUGIN, ""),
    (f"{CONFIG}/plugins/{{name}}/toggle", "post", 200, PLUGIN, "enabled"),
    (f"{CONFIG}/plugins/{{name}}/check", "post", 200, PLUGIN, ""),
    (f"{CONFIG}/personas", "get", 200, PERSONA, f"{LIST} ordering"),
    (f"{CONFIG}/personas", "post", 201, PERSONA, ""),
    (f"{CONFIG}/personas/{{name}}", "get", 200, PERSONA, ""),
    (f"{CONFIG}/personas/{{name}}", "put", 200, PERSONA, ""),
    (f"{CONFIG}/personas/{{name}}", "patch", 200, PERSONA, ""),
    (f"{CONFIG}/personas/{{name}}", "delete", 204, "", ""),
    (f"{CONFIG}/personas/assignments", "get", 200, ASSIGNMENT, LIST),
    (f"{CONFIG}/personas/assign", "put", 200, ASSIGNMENT, ""),
    (f"{CONFIG}/governance-rules", "get", 200, GOVERNANCE_RULE, LIST),
    (f"{CONFIG}/governance-rules", "post", 201, GOVERNANCE_RULE, ""),
    (f"{CONFIG}/governance-rules/{{id}}", "get", 200, GOVERNANCE_RULE, ""),
    (f"{CONFIG}/governance-rules/{{id}}", "put", 200, GOVERNANCE_RULE, ""),
    (f"{CONFIG}/governance-rules/{{id}}", "patch", 200, GOVERNANCE_RULE, ""),
    (f"{CONFIG}/governance-rules/{{id}}", "delete", 204, "", ""),
    (f"{CONFIG}/approval-policies", "get", 200, POLICY, LIST),
    (f"{CONFIG}/approval-policies", "post", 201, POLICY, ""),
    (f"{CONFIG}/approval-policies/{{id}}", "get", 200, POLICY, ""),
    (f"{CONFIG}/approval-policies/{{id}}", "put", 200, POLICY, ""),
    (f"{CONFIG}/approval-policies/{{id}}", "patch", 200, POLICY, ""),
    (f"{CONFIG}/approval-policies/{{id}}", "delete", 204, "", ""),
    (f"{CONFIG}/webhooks", "get", 200, WEBHOOK, f"{LIST} enabled"),
    (f"{CONFIG}/webhooks", "post", 201, WEBHOOK, ""),
    (f"{CONFIG}/webhooks/{{name}}", "get", 200, WEBHOOK, ""),
    (f"{CONFIG}/webhooks/{{name}}", "put", 200, WEBHOOK, ""),
    (f"{CONFIG}/webhooks/{{name}}", "patch", 200, WEBHOOK, ""),
    (f"{CONFIG}/webhooks/{{name}}", "delete", 204, "", ""),
    (f"{CONFIG}/webhooks/{{name}}/deliveries", "get", 200, "results", ""),
    (f"{CONFIG}/webhooks/{{name}}/test", "post", 200, DELIVERY, ""),
    (f"{CONFIG}/governance-overrides", "get", 200, OVERRIDE, f"{LIST} {OVERRIDE_FILTERS}"),
    (f"{CONFIG}/governance-overrides", "post", 201, f"{OVERRIDE} required conflicts actions", ""),
    (
        *(f"{CONFIG}/governance-overrides/backlog", "get", 200),
        *("waiting waiting_for_me oldest in_force expiring_soon expired to_review", ""),
    ),
    (f"{CONFIG}/governance-overrides/{{id}}", "get", 200, f"{OVERRIDE} required conflicts actions", ""),
    (f"{CONFIG}/governance-overrides/{{id}}", "put", 200, OVERRIDE, ""),
    (f"{CONFIG}/governance-overrides/{{id}}", "patch", 200, OVERRIDE, ""),
    *(
        (f"{CONFIG}/governance-overrides/{{id}}/{verb}", "post", 200, OVERRIDE, "")
        for verb in ("propose", "approve", "reject", "withdraw", "revoke", "confirm")
    ),
    (f"{CONFIG}/audit-trail", "get", 200, CHANGE, f"limit {CHANGE_FILTERS}"),
    (f"{CONFIG}/audit-trail/{{revision}}", "get", 200, CHANGE, ""),
    (
        *(f"{CONFIG}/configuration", "get", 200),
        *("epoch revision evaluated_at valid_until rules plugins personas assignments overrides", "since revision"),
    ),
    (f"{CONFIG}/changes", "get", 200, "", "filter_types"),
    (f"{CONFIG}/export", "get", 200, "", "format"),
    (f"{CONFIG}/export/schema", "get", 200, "", ""),
    (f"{CONFIG}/import", "post", 200, PLAN, ""),
    (f"{CONFIG}/presets", "get", 200, PRESET, "skip limit"),
    (f"{CONFIG}/presets", "post", 201, f"{PRESET} counts document", ""),
    (f"{CONFIG}/presets/{{name}}", "get", 200, f"{PRESET} counts document", ""),
    (f"{CONFIG}/presets/{{name}}", "delete", 204, "", ""),
    (f"{CONFIG}/presets/{{name}}/compare", "get", 200, "steps", "with"),
    (f"{CONFIG}/presets/{{name}}/plan", "post", 200, PLAN, ""),
    (f"{CONFIG}/presets/{{name}}/apply", "post", 200, PLAN, ""),
    (f"{CONFIG}/rollback", "post", 200, "revision steps left_alone warnings", ""),
    (f"{CONFIG}/users", "get", 200, USER, f"{LIST} ordering is_active is_superuser role"),
    (f"{CONFIG}/users", "post", 201, USER, ""),
    (f"{CONFIG}/users/{{username}}", "get", 200, USER, ""),
    (f"{CONFIG}/users/{{username}}", "put", 200, USER, ""),
    (f"{CONFIG}/users/{{username}}", "patch", 200, USER, ""),
    (f"{CONFIG}/users/{{username}}", "delete", 204, "", "change_reason"),
    (f"{CONFIG}/roles", "get", 200, "id name permissions members", LIST),
    (f"{CONFIG}/roles/{{name}}", "get", 200, "id name permissions members", ""),
    (f"{CONFIG}/grants", "get", 200, GRANT, f"skip limit {GRANT}".replace(" entity_name", "")),
    (f"{CONFIG}/grants", "post", 201, GRANT, ""),
    (f"{CONFIG}/grants", "delete", 204, "", f"change_reason {GRANT}".replace(" entity_name", "")),
    (f"{CONFIG}/ui-state", "get", 200, STATE, ""),
    (f"{CONFIG}/ui-state/{{component}}", "get", 200, STATE, ""),
    (f"{CONFIG}/ui-state/{{component}}", "put", 200, STATE, ""),
    (f"{CONFIG}/ui-state/{{component}}", "delete", 204, "", ""),
    ("/api/v1/me", "get", 200, "username roles permissions may", ""),
    ("/api/v1/me/notifications", "get", 200, "id kind text override_id created_at read", "skip limit kind unread"),
    ("/api/v1/me/notifications/read", "post", 200, "marked unread", ""),
    ("/api/v1/schema", "get", 200, "", ""),
    (f"{REVIEWS}/sessions", "get", 200, SESSION, f"{LIST} status scope codebase codebase_id started_by since until"),
    (f"{REVIEWS}/sessions", "post", 201, SESSION, ""),
    (f"{REVIEWS}/sessions/{{id}}", "get", 200, SESSION, ""),
    (f"{REVIEWS}/sessions/{{id}}", "delete", 204, "", ""),
    (f"{REVIEWS}/sessions/{{id}}/cancel", "post", 200, SESSION, ""),
    (f"{REVIEWS}/sessions/{{id}}/compare", "get", 200, "counts new fixed unchanged suppressed", "with skip limit"),
    (f"{REVIEWS}/sessions/{{session_id}}/issues", "get", 200, ISSUE, f"{LIST} state plugin persona {FINDING_FILTERS}"),
    (f"{REVIEWS}/sessions/{{session_id}}/issues/{{id}}", "get", 200, f"{ISSUE} context_start context", ""),
    (f"{REVIEWS}/findings", "get", 200, FINDING, f"{LIST} codebase codebase_id key presence {FINDING_FILTERS}"),
    (f"{REVIEWS}/findings/{{id}}", "get", 200, f"{FINDING} decisions last_issue", ""),
    (f"{REVIEWS}/findings/triage", "post", 200, "applied results", ""),
    (f"{REVIEWS}/codebases", "get", 200, "id name root last_session open_findings", LIST),
    (f"{REVIEWS}/codebases/{{id}}", "get", 200, "id name root last_session open_findings", ""),
    (f"{REVIEWS}/prompts", "get", 200, PROMPT, f"{LIST} session codebase persona status severity"),
    (f"{REVIEWS}/prompts/{{id}}", "get", 200, f"{PROMPT} body", ""),
    (f"{REVIEWS}/prompts/{{id}}", "patch", 200, f"{PROMPT} body", ""),
    (f"{REVIEWS}/prompts/{{id}}/file", "get", 200, "", ""),
    ("/healthz", "get", 200, "status", ""),
    ("/readyz", "get", 200, "status revision degraded", ""),
    ("/metrics", "get", 200, "", ""),
]
BODIES = [
    (f"{CONFIG}/analysis-rules", "post", RULE.replace("id ", "", 1).split(" version")[0] + " change_reason"),
    (f"{CONFIG}/analysis-rules/{{id}}", "put", "name severity personas change_reason"),
    (f"{CONFIG}/analysis-rules/bulk", "post", "updates change_reason"),
    (f"{CONFIG}/plugins/{{name}}", "patch", "enabled configuration change_reason"),
    (f"{CONFIG}/plugins/{{name}}/toggle", "post", "enabled"),
    (f"{CONFIG}/personas", "post", "name title description voice rule_types"),
    (f"{CONFIG}/personas/assign", "put", "rule_id rule_name persona_name assignment_reason confidence_score"),
    (
        *(f"{CONFIG}/governance-overrides", "post"),
        "rule_name target_type override_config paths reason expires_at draft break_glass change_reason",
    ),
    (f"{CONFIG}/governance-overrides/{{id}}", "patch", "override_config paths reason expires_at"),
    (f"{CONFIG}/governance-overrides/{{id}}/approve", "post", "comment version"),
    (f"{CONFIG}/ui-state/{{component}}", "put", "configuration"),
    (f"{CONFIG}/import", "post", "document mode planned_at expires_at change_reason"),
    (f"{CONFIG}/presets", "post", "name title description"),
    (f"{CONFIG}/presets/{{name}}/apply", "post", "mode planned_at expires_at change_reason"),
    (f"{CONFIG}/users", "post", "username password first_name last_name email is_active is_staff roles change_reason"),
    (f"{CONFIG}/users/{{username}}", "patch", "username password roles change_reason"),
    (f"{CONFIG}/grants", "post", "entity_type entity_id user role permission change_reason"),
    (f"{CONFIG}/rollback", "post", "to_revision to_time batch change mode planned_at change_reason"),
    ("/api/v1/auth/token", "post", "username password"),
    (f"{REVIEWS}/sessions", "post", "root codebase exclude"),
    (f"{REVIEWS}/findings/triage", "post", "ids triage reason"),
    (f"{REVIEWS}/prompts/{{id}}", "patch", "status"),
]


@pytest.fixture(scope="module")
def document():
    return json.loads(write_document("json"))


def resolve(document, schema):
    while "$ref" in schema:
        part = document
        for step in schema["$ref"][2:].split("/"):
            part = part[step]
        schema = part
    return schema


def find_fields(document, content):
    (schema,) = [resolve(document, media["schema"]) for kind, media in content.items() if "problem" not in kind]
    if "oneOf" in schema:  # the whole first, then what is asked for specially
        schema = resolve(document, schema["oneOf"][0])
    if "results" in schema.get("properties", {}) and "count" in schema["properties"]:
        assert {"count", "count_capped", "next", "previous", "results"} <= set(schema["properties"])
        schema = resolve(document, schema["properties"]["results"]["items"])
    return set(schema.get("properties", {}))


@pytest.mark.parametrize(
    ("route", "method", "status", "fields", "parameters"), PROMISES, ids=[f"{p[1]} {p[0]}" for p in PROMISES]
)
def test_what_was_promised_is_described(document, route, method, status, fields, parameters):
    operation = document["paths"][route][method]
    response = operation["responses"][str(status)]
    if fields:
        assert set(fields.split()) <= find_fields(document, response["content"])
    described = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
    assert set(parameters.split()) <= described


@pytest.mark.parametrize(("route", "method", "fields"), BODIES, ids=[f"{b[1]} {b[0]}" for b in BODIES])
def test_what_may_be_sent_is_described(document, route, method, fields):
    content = document["paths"][route][method]["requestBody"]["content"]
    assert set(content) == {"application/json"}
    assert set(fields.split()) <= find_fields(document, content)


def test_every_described_route_is_promised(document):
    promised = {(route, method) for route, method, *_ in PROMISES}
    beside = {
        ("/api/v1/schema.json", "get"),
        (f"{CONFIG}/personas/assignments/{{id}}", "get"),
        (f"{CONFIG}/personas/assignments/{{id}}", "delete"),
    }
    described = {(route, method) for route, item in document["paths"].items() for method in item}
    assert described == promised | beside


def test_every_operation_describes_its_problems_headers_and_itself(document):
    seen = set()
    for route, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["description"], (method, route)
            assert operation["operationId"] not in seen
            seen.add(operation["operationId"])
            for status, response in operation["responses"].items():
                if int(status) < 400:
                    continue
                response = resolve(document, response)
                assert set(response["content"]) == {"application/problem+json"}
                assert "X-Request-ID" in response["headers"]
            if route.startswith((CONFIG, "/api/v1/reviews")):
                assert {"400", "401", "403", "503"} <= set(operation["responses"]), (method, route)
            if "{" in route:
                assert "404" in operation["responses"], (method, route)
            if "requestBody" in operation:
                assert {"413", "415"} <= set(operation["responses"]), (method, route)


def test_writes_describe_reason_tag_and_revision(document):
    operation = document["paths"][f"{CONFIG}/analysis-rules/{{id}}"]["patch"]
    assert {"X-Change-Reason", "If-Match"} <= {each["name"] for each in operation["parameters"]}
    assert {"ETag", "X-Revision", "X-Request-ID"} <= set(operation["responses"]["200"]["headers"])
    assert {"409", "412"} <= set(operation["responses"])


def test_both_ways_to_authenticate_are_described(document):
    schemes = document["components"]["securitySchemes"]
    assert {"type": "http", "scheme": "bearer"}.items() <= schemes["bearer"].items()
    assert schemes["cookieAuth"]["in"] == "cookie"


def test_the_description_is_valid_and_gives_no_warning(tmp_path, capsys):
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yaml"))
    written = yaml.safe_load((tmp_path / "schema.yaml").read_text())
    assert written["openapi"].startswith("3.1")
    assert "Warning" not in capsys.readouterr().err


def test_all_schemas_can_be_used(document):
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.fixture
def administrator():
    make_persona("security")
    rule = make_rule()
    make_governance_rule()
    make_override(rule.name, status="active", enabled=True, approved_by="chief")
    before, session = make_session(), make_session()
    finding = make_finding(first_session=before, last_session=session)
    for each in (before, session):
        make_issue(each, finding)
    finding.decisions.create(old_triage="open", new_triage="acknowledged", decided_by="ada")
    make_prompt(session)
    user = make_user("administrator")
    client = api_client(user)
    Notification.objects.create(
        user=user, kind="to_approve", override=GovernanceRuleOverride.objects.get(), text="?", created_at=timezone.now()
    )
    client.put(f"{CONFIG}/ui-state/editor", {"configuration": {"a": 1}})
    grant(action="view", holder=Group.objects.get(name="viewer"), target=rule)
    return client


@pytest.mark.django_db
def test_every_answer_is_what_is_described(document, administrator):
    before, session = ReviewSession.objects.order_by("id")
    hook = make_webhook()
    hook.deliveries.create(change_type="test", created_at=timezone.now())
    keys = {
        f"{CONFIG}/analysis-rules/{{id}}": AnalysisRule.objects.get().pk,
        f"{CONFIG}/plugins/{{name}}": "patterns",
        f"{CONFIG}/personas/{{name}}": "security",
        f"{CONFIG}/personas/assignments/{{id}}": PersonaRuleAssignment.objects.get().pk,
        f"{CONFIG}/governance-rules/{{id}}": GovernanceRule.objects.get().pk,
        f"{CONFIG}/approval-policies/{{id}}": make_policy().pk,
        f"{CONFIG}/webhooks/{{name}}": hook.name,
        f"{CONFIG}/webhooks/{{name}}/deliveries": "hook",
        f"{CONFIG}/governance-overrides/{{id}}": GovernanceRuleOverride.objects.get().pk,
        f"{CONFIG}/audit-trail/{{revision}}": 1,
        f"{CONFIG}/presets/{{name}}": "strict",
        f"{CONFIG}/presets/{{name}}/compare": "strict",
        f"{CONFIG}/users/{{username}}": User.objects.get().username,
        f"{CONFIG}/roles/{{name}}": "viewer",
        f"{CONFIG}/ui-state/{{component}}": "editor",
        f"{REVIEWS}/sessions/{{id}}": session.pk,
        f"{REVIEWS}/sessions/{{id}}/compare": session.pk,
        f"{REVIEWS}/sessions/{{session_id}}/issues": session.pk,
        f"{REVIEWS}/sessions/{{session_id}}/issues/{{id}}": None,
        f"{REVIEWS}/findings/{{id}}": TrackedFinding.objects.get().pk,
        f"{REVIEWS}/codebases/{{id}}": session.tracked_codebase_id,
        f"{REVIEWS}/prompts/{{id}}": CopilotPrompt.objects.get().pk,
    }
    for route, item in document["paths"].items():
        if "get" not in item or "json" not in str(item["get"]["responses"]["200"]["content"]):
            continue
        address = route
        if "{" in route:
            address = re.sub(r"\{\w+\}", str(keys[route]), route, count=1)
            if keys[route] is None:
                address = f"{REVIEWS}/sessions/{session.pk}/issues/{session.issues.get().pk}"
        if address.endswith("/compare"):
            address += "?with=baseline" if "presets" in address else f"?with={before.pk}"
        response = administrator.get(address)
        assert response.status_code == 200, (address, response.content)
        described = item["get"]["responses"]["200"]
        assert {name.lower() for name in described["headers"]} <= {name.lower() for name in response.headers}
        media_type = response["Content-Type"]
        if media_type != "application/json":
            assert media_type in described["content"]
            continue
        body = json.loads(response.content)
        schema = {**described["content"][media_type]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(body)
        assert body.get("results") != [], address


def test_the_description_is_served_to_anybody_as_yaml_and_json(document):
    client = Client()
    assert client.get("/api/v1/schema.json").json() == document
    response = client.get("/api/v1/schema")
    assert response["Content-Type"] == "application/yaml"
    assert yaml.safe_load(response.content) == document
    assert client.get("/api/v1/schema", headers={"Accept": "application/json"}).json() == document


def test_the_page_that_shows_it_has_nothing_inline():
    client = Client()
    response = client.get("/api/v1/docs")
    page = response.content.decode()
    assert response.status_code == 200
    assert "unsafe" not in response["Content-Security-Policy"]
    assert page.count("<script src=") == page.count("<script") == 3
    assert "<style" not in page and "style=" not in page and "://" not in page
    script = client.get("/api/v1/docs?script=")
    assert script["Content-Type"].startswith("application/javascript")
    assert "/api/v1/schema.json" in script.content.decode().replace("\\u002D", "-")
