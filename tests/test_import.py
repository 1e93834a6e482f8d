"""A document planned and applied by API, admin and command: entry states, rights, governance, lines of mistakes."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import jsonschema
import pytest
import yaml
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.urls import reverse

from audit.document_schema import write_schema
from audit.exchange import FORMAT, InvalidDocument, apply, dump, export_document, parse
from audit.exports import HEADER, exchanged_models
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR, grant
from audit.sources import TOLD
from governance_config.library import FOLDER, STARTER_NAME
from governance_config.management.commands.prepare import STARTER
from overrides.models import GovernanceRule
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from plugins.services import sync_plugins
from rules.models import AnalysisRule
from tests.admin_client import REASON, said, sign_in, text
from tests.factories import api_client, make_assignment, make_governance_rule, make_persona, make_rule, make_user
from tests.rest import CONFIG, expect_problem, last_change, revision

pytestmark = pytest.mark.django_db
IMPORT = f"{CONFIG}/import"
PAGE = "/admin/governance_config/preset/import/"
RULE = {"rule_type": "security", "configuration": {"pattern": "eval"}}


def write(**sections) -> dict:
    return {"format": FORMAT, **sections}


def plan(document, user=SYSTEM_ACTOR):
    return apply(document, user=user, dry_run=True)


def statuses(made) -> dict[str, str]:
    return {step.name: step.status for step in made.steps}


# Where mistakes are


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_the_one_bad_entry_of_500_is_named_by_line_field_and_reason_through_the_api(form):
    sync_plugins()
    entries = [{"name": f"rule-{number}", **RULE} for number in range(500)]
    entries[321]["severity"] = "dreadful"
    document = dump(write(analysis_rules=entries), form)
    line = next(number for number, row in enumerate(document.splitlines(), 1) if "dreadful" in row)
    client = api_client(make_user("rule editor"))
    before = revision()
    body = expect_problem(
        client.post(IMPORT, {"document": document, "mode": "apply"}),
        400,
        "invalid",
        "#/document/analysis_rules/321/severity",
    )
    assert body["errors"][0]["line"] == line
    assert "rule-321" in body["detail"] and "dreadful" in body["detail"]
    assert revision() == before
    assert not AnalysisRule.objects.exists()


def test_other_entries_are_judged_beside_a_bad_one_and_what_refers_to_it_is_not_blamed():
    make_persona("guest", rule_types=[])
    sync_plugins()
    document = write(
        analysis_rules=[{"name": "bad", "rule_type": "none"}, {"name": "good", **RULE}],
        persona_assignments=[{"rule": "bad", "persona": "guest"}, {"rule": "good", "persona": "nobody"}],
    )
    made = plan(document)
    pointers = {problem.pointer for problem in made.problems}
    assert pointers >= {"/analysis_rules/0/rule_type", "/persona_assignments/1/persona"}
    assert statuses(made)["good"] == "created"
    assert not any(problem.pointer.startswith("/persona_assignments/0") for problem in made.problems)


def test_a_bounded_number_of_mistakes_is_told():
    document = write(personas=[{"name": f"p{number}", "colour": "red"} for number in range(TOLD + 50)])
    with pytest.raises(InvalidDocument) as refused:
        apply(document, user=SYSTEM_ACTOR)
    assert len(refused.value.lines()) == TOLD + 1
    assert refused.value.lines()[-1] == "… and 50 more"
    client = api_client(make_user("administrator"))
    assert len(client.post(IMPORT, {"document": document, "mode": "apply"}).json()["errors"]) == TOLD


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("format: x\npersonas:\n  - name: a\n    name: b\n", 4, "twice"),
        ('{"format": "x",\n "format": "y"}', 2, "twice"),
        ("format: x\na: &b [1]\nc: *b\n", 3, "Aliases"),
        ("format: x\na: !!set {}\n", 2, "Tags"),
        ("format: x\n---\nformat: y\n", 2, "one document"),
        ("format: x\na: [\n", 3, "not YAML"),
        ('{"format": "x",\n "a": }', 2, "not JSON"),
        (b"format: x\na: \xff\n", 2, "UTF-8"),
        ("format: x\na: " + "[" * 200, 2, "nested"),
        ("format: x\n? [a]\n: b\n", 2, "plain text"),
        ('{"format": "x", "a": ' + "[" * 200 + "]" * 200 + "}", 1, "nested"),
        ("", 1, "object"),
    ],
)
def test_text_that_cannot_be_read_says_in_which_line(source, line, words):
    with pytest.raises(InvalidDocument, match=words) as refused:
        parse(source)
    assert [problem.line for problem in refused.value.problems] == [line]


def test_a_mistake_in_a_field_that_is_not_there_is_told_at_its_entry():
    sync_plugins()
    document = parse(f"format: {FORMAT}\nanalysis_rules:\n  - name: a\n    rule_type: style\n  - {{name: b}}\n")
    made = plan(document)
    assert {(problem.pointer, problem.line) for problem in made.problems if problem.name == "b"} >= {
        ("/analysis_rules/1/rule_type", 5)
    }
    assert any("no analysis rule b yet" in problem.detail for problem in made.problems)


def test_names_that_no_database_can_keep_are_refused():
    document = parse(json.dumps(write(personas=[{"name": "a\x00b"}])))
    assert [problem.pointer for problem in plan(document).problems] == ["/personas/0/name"]
    document = write(persona_assignments=[{"rule": "x", "persona": "\x00"}])
    assert [problem.pointer for problem in plan(document).problems] == ["/persona_assignments/0/persona"]
    document = write(analysis_rules=[{"name": "x", "plugin": "\x00"}])
    assert [problem.pointer for problem in plan(document).problems] == ["/analysis_rules/0/plugin"]


def test_what_yaml_would_guess_stays_what_json_can_say():
    document = parse("a: 2026-11-24\nb: 'no'\nc: no\nd: 1_000\ne: ~\nf: 1.5\n")
    assert document == {"a": "2026-11-24", "b": "no", "c": False, "d": 1000, "e": None, "f": 1.5}


# Entry states


def test_an_absent_entry_is_deleted_and_what_goes_with_it_is_told():
    make_persona()
    rule, other = make_rule(), make_rule()
    made = plan(write(analysis_rules=[{"name": rule.name, "state": "absent"}]))
    assert statuses(made) == {rule.name: "deleted"}
    assert made.implied == (f"persona unassigned: security for {rule.name}",)
    assert AnalysisRule.objects.count() == 2
    apply(write(analysis_rules=[{"name": rule.name, "state": "absent"}]), user=SYSTEM_ACTOR)
    assert [item.name for item in AnalysisRule.objects.all()] == [other.name]
    again = apply(write(analysis_rules=[{"name": rule.name, "state": "absent"}]), user=SYSTEM_ACTOR)
    assert statuses(again) == {rule.name: "unchanged"}


def test_an_absent_assignment_ends_and_its_persona_can_go_in_the_same_document():
    rule, guest = make_rule(), make_persona("guest", rule_types=[])
    make_assignment(rule, guest)
    document = write(
        personas=[{"name": "guest", "state": "absent"}],
        persona_assignments=[{"rule": rule.name, "persona": "guest", "state": "absent"}],
    )
    apply(document, user=SYSTEM_ACTOR)
    assert not Persona.objects.exists()
    assert not PersonaRuleAssignment.objects.filter(is_active=True).exists()


def test_an_absent_entry_that_others_depend_on_is_refused():
    make_persona()
    make_rule()
    made = plan(write(personas=[{"name": "security", "state": "absent"}]))
    assert statuses(made) == {"security": "refused"}
    assert "depend" in made.problems[0].detail
    assert Persona.objects.exists()


def test_a_plugin_cannot_be_absent():
    sync_plugins()
    made = plan(write(plugins=[{"name": "secrets", "state": "absent"}]))
    assert "installed package" in made.problems[0].detail
    assert Plugin.objects.filter(name="secrets").exists()


def test_a_created_entry_is_made_once_and_never_changed():
    entry = {"name": "guest", "title": "First", "state": "created"}
    assert statuses(apply(write(personas=[entry]), user=SYSTEM_ACTOR)) == {"guest": "created"}
    made = apply(write(personas=[{**entry, "title": "Second"}]), user=SYSTEM_ACTOR)
    assert statuses(made) == {"guest": "unchanged"}
    assert Persona.objects.get().title == "First"


def test_an_unknown_state_is_refused():
    assert plan(write(personas=[{"name": "x", "state": "gone"}])).problems[0].pointer == "/personas/0/state"


# Plans


def test_a_plan_tells_each_entry_with_counts_and_writes_nothing():
    make_persona()
    rule = make_rule(severity="high")
    document = write(
        analysis_rules=[
            {"name": rule.name, "severity": "low"},
            {"name": "new", **RULE},
            {"name": "bad", "rule_type": "nothing"},
        ],
        personas=[{"name": "security"}],
    )
    client = api_client(make_user("administrator"))
    before = revision()
    response = client.post(IMPORT, {"document": document, "mode": "plan"})
    body = response.json()
    assert response.status_code == 200
    assert body["counts"] == {"created": 1, "updated": 1, "deleted": 0, "unchanged": 1, "proposed": 0, "refused": 1}
    steps = {step["name"]: step for step in body["steps"]}
    assert steps[rule.name]["fields"] == {"severity": {"old": "high", "new": "low"}}
    assert steps["bad"]["problems"]
    assert "security" not in steps
    assert revision() == before


def test_file_types_in_another_spelling_are_no_change():
    rule = make_rule(file_types=[".py"])
    made = plan(write(analysis_rules=[{"name": rule.name, "file_types": ["PY"]}]))
    assert statuses(made) == {rule.name: "unchanged"}


def test_what_has_moved_since_the_plan_is_not_applied():
    client = api_client(make_user("administrator"))
    document = write(personas=[{"name": "guest"}])
    planned = client.post(IMPORT, {"document": document, "mode": "plan"}).json()["revision"]
    make_persona("other")
    body = {"document": document, "mode": "apply", "planned_at": planned}
    expect_problem(client.post(IMPORT, body), 409, "conflict")
    assert not Persona.objects.filter(name="guest").exists()
    body["planned_at"] = revision()
    response = client.post(IMPORT, {**body, "change_reason": "from staging"})
    assert response.status_code == 200
    assert response["X-Revision"] == str(response.json()["revision"]) == str(revision())
    assert (last_change().change_reason, last_change().source) == ("from staging", "api")


@pytest.mark.parametrize("document", [7, ["x"], None, "just text", {"format": "other"}, {}])
def test_what_is_no_document_is_refused_by_the_api(document):
    client = api_client(make_user("administrator"))
    for mode in ("plan", "apply"):
        expect_problem(client.post(IMPORT, {"document": document, "mode": mode}), 400, "invalid")


def test_a_document_is_planned_with_few_statements_however_long_it_is(django_assert_max_num_queries):
    make_persona()
    sync_plugins()
    apply(write(analysis_rules=[{"name": f"rule-{number}", **RULE} for number in range(300)]), user=SYSTEM_ACTOR)
    document = export_document(SYSTEM_ACTOR)
    with django_assert_max_num_queries(20):
        plan(document)


# Rights


def test_a_rule_editor_imports_rules_and_nothing_else():
    make_persona()
    client = api_client(make_user("rule editor"))
    sync_plugins()
    rules = {"analysis_rules": [{"name": "new", **RULE}]}
    assert client.post(IMPORT, {"document": write(**rules), "mode": "apply"}).status_code == 200
    before = revision()
    for section in (
        {"personas": [{"name": "guest"}]},
        {"plugins": [{"name": "secrets", "enabled": False}]},
        {"governance_rules": [{"name": "a", "condition": "true", "message": "m", "enabled": False}]},
        {"personas": [{"name": "security", "state": "absent"}]},
    ):
        response = client.post(IMPORT, {"document": write(**section), "mode": "apply"})
        assert "may not" in expect_problem(response, 403, "forbidden")["detail"]
        mixed = write(analysis_rules=[{"name": "another", **RULE}], **section)
        expect_problem(client.post(IMPORT, {"document": mixed, "mode": "apply"}), 403, "forbidden")
    assert revision() == before


def test_a_plan_shows_nothing_of_what_its_reader_may_not_see():
    rule = make_rule(message="classified")
    user = make_user("rule editor")
    user.groups.clear()
    grant(action="change", holder=user, target=rule)
    made = plan(
        write(analysis_rules=[{"name": rule.name, "message": "guess"}]), user=type(user).objects.get(pk=user.pk)
    )
    assert statuses(made) == {rule.name: "refused"}
    assert "classified" not in json.dumps(made.document())


def test_a_grant_on_one_rule_is_enough_for_that_one():
    mine, other = make_rule(), make_rule()
    user = make_user()
    for action in ("view", "change"):
        grant(action=action, holder=user, target=mine)
    user = type(user).objects.get(pk=user.pk)
    made = plan(write(analysis_rules=[{"name": item.name, "severity": "low"} for item in (mine, other)]), user=user)
    assert statuses(made) == {mine.name: "updated", other.name: "refused"}


def test_the_commands_ask_for_the_right_as_every_door(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(dump(write()))
    viewer = make_user("viewer").username
    for command, arguments in (("import_config", [str(file), "--plan"]), ("export_config", [])):
        with pytest.raises(CommandError, match="may not") as refused:
            call_command(command, *arguments, "--as", viewer, stdout=StringIO())
        assert refused.value.returncode == 1


# Governance


def test_the_plan_says_which_entry_a_governance_rule_refuses_and_which_takes_an_override():
    make_persona()
    first, second = make_rule(), make_rule()
    make_governance_rule(enforcement="block", condition="new == null || new.severity != 'info'")
    make_governance_rule(
        "stays-on",
        enforcement="require_override",
        condition="new == null || new.enabled",
        examples={"pass": [{"new": {"enabled": True}}], "fail": [{"new": {"enabled": False}}]},
    )
    document = write(analysis_rules=[{"name": first.name, "severity": "info"}, {"name": second.name, "enabled": False}])
    made = plan(document)
    steps = {step.name: step for step in made.steps}
    assert (steps[first.name].status, steps[first.name].needs_override) == ("refused", False)
    assert (steps[second.name].status, steps[second.name].needs_override) == ("refused", True)
    assert steps[second.name].fields == {"enabled": (True, False)}
    client = api_client(make_user("administrator"))
    before = revision()
    body = expect_problem(client.post(IMPORT, {"document": document, "mode": "apply"}), 409, "conflict")
    assert {(entry["pointer"], entry["code"]) for entry in body["errors"]} == {
        ("#/document/analysis_rules/0", "conflict"),
        ("#/document/analysis_rules/1", "needs_override"),
    }
    assert revision() == before


def test_warnings_of_governance_rules_reach_the_reader():
    make_persona()
    rule = make_rule()
    make_governance_rule(enforcement="warn")
    made = plan(write(analysis_rules=[{"name": rule.name, "severity": "info"}]))
    assert len(made.warnings) == 1 and rule.name in made.warnings[0]


# The admin


def test_the_admin_shows_the_plan_asks_why_and_applies_it():
    make_persona()
    rule = make_rule(severity="high")
    browser = sign_in(make_user("administrator"))
    document = dump(write(analysis_rules=[{"name": rule.name, "severity": "low", "message": "one\ntwo\n"}]))
    page = browser.post(PAGE, {"file": SimpleUploadedFile("c.yaml", document.encode())})
    shown = text(page)
    assert page.status_code == 200
    assert "1 updated" in shown and rule.name in shown and "Severity" in shown.title()
    assert AnalysisRule.objects.get().severity == "high"
    sent = {"document": page.context["document"], "planned_at": page.context["plan"].revision}
    refused = browser.post(PAGE, {**sent, "change_reason": ""})
    assert "Say why" in text(refused)
    done = browser.post(PAGE, {**sent, "document": sent["document"].replace("\n", "\r\n"), "change_reason": REASON})
    assert done.status_code == 302
    assert "1 updated" in said(done)
    stored = AnalysisRule.objects.get()
    assert (stored.severity, stored.message) == ("low", "one\ntwo\n")
    change = ConfigurationAuditLog.objects.order_by("-revision").first()
    assert (change.change_reason, change.source) == (REASON, "admin")


def test_the_admin_names_the_line_of_a_mistake_and_offers_nothing_to_apply():
    sync_plugins()
    browser = sign_in(make_user("rule editor"))
    page = browser.post(PAGE, {"text": f"format: {FORMAT}\nanalysis_rules:\n- name: a\n  rule_type: nothing\n"})
    assert "Line 4: Value 'nothing' is not a valid choice." in text(page)
    assert b'name="planned_at"' not in page.content
    broken = browser.post(PAGE, {"text": "a: [\n"})
    assert "line 2" in text(broken)
    both = browser.post(PAGE, {"text": "a: 1", "file": SimpleUploadedFile("c.yaml", b"a: 1")})
    assert "Choose a file, or paste" in text(both)
    neither = browser.post(PAGE, {"text": " "})
    assert "Choose a file, or paste" in text(neither)


def test_the_admin_takes_no_document_without_bound(monkeypatch):
    monkeypatch.setattr("governance_config.exchange_admin.MAX_PRESET", 100)
    browser = sign_in(make_user("administrator"))
    page = browser.post(PAGE, {"file": SimpleUploadedFile("c.yaml", b"#" * 101)})
    assert "at most 100 are read here" in text(page)


def test_a_document_in_the_admin_is_shown_as_text_and_never_as_markup():
    browser = sign_in(make_user("administrator"))
    page = browser.post(PAGE, {"text": f"format: {FORMAT}\npersonas:\n- name: '<script>alert(1)</script>'\n"})
    assert b"<script>alert" not in page.content


# The schema and the header


def test_the_schema_is_published_and_the_one_in_the_release_is_up_to_date(tmp_path):
    response = api_client(make_user()).get(f"{CONFIG}/export/schema")
    assert (response.status_code, response["Content-Type"]) == (200, "application/schema+json")
    shipped = FOLDER / "configuration.schema.json"
    assert response.content.decode() == shipped.read_text(encoding="utf-8")
    call_command("export_config", "--schema", "--output", str(tmp_path / "s.json"))
    assert (tmp_path / "s.json").read_text() == shipped.read_text()


def test_exports_and_presets_satisfy_the_schema_and_mistakes_do_not():
    validator = jsonschema.Draft202012Validator(write_schema())
    sync_plugins()
    apply(parse(STARTER.read_bytes()), user=SYSTEM_ACTOR)
    validator.validate(export_document(SYSTEM_ACTOR))
    for path in FOLDER.glob("*.yaml"):
        validator.validate(parse(path.read_bytes()))
    for wrong in (
        {"format": "other"},
        write(analysis_rules=[{"title": "x"}]),
        write(analysis_rules=[{"name": "x", "severity": "dreadful"}]),
        write(analysis_rules=[{"name": "x", "state": "gone"}]),
        write(analysis_rules=[{"name": "x", "colour": "red"}]),
        write(rules=[]),
    ):
        assert not validator.is_valid(wrong), wrong


def test_the_schema_speaks_of_every_field_that_is_exported():
    schema = write_schema()
    for model in exchanged_models():
        described = schema["$defs"][model.entity_type]["properties"]
        assert set(described) == {*model.exchange_fields, "state"}


def test_a_yaml_export_names_its_schema_for_editors_whatever_the_host():
    client = api_client(make_user("administrator"))
    first = client.get(f"{CONFIG}/export").content.decode()
    second = client.get(f"{CONFIG}/export", HTTP_HOST="127.0.0.1").content.decode()
    assert first.startswith(HEADER) and first == second
    assert yaml.safe_load(first)["format"] == FORMAT


# The command


def test_the_command_writes_a_plan_as_json(tmp_path):
    make_rule(name="no-eval")
    file = tmp_path / "c.json"
    file.write_text(json.dumps(write(analysis_rules=[{"name": "no-eval", "severity": "low"}])))
    out = StringIO()
    call_command("import_config", str(file), "--plan", "--json", stdout=out)
    assert json.loads(out.getvalue())["counts"]["updated"] == 1


def test_the_command_shows_what_it_can_of_a_plan_that_is_refused(tmp_path):
    sync_plugins()
    file = tmp_path / "c.yaml"
    file.write_text(dump(write(analysis_rules=[{"name": "good", **RULE}, {"name": "bad", "rule_type": "nothing"}])))
    out = StringIO()
    with pytest.raises(CommandError, match=r"line 9, /analysis_rules/1/rule_type \(bad\)") as refused:
        call_command("import_config", str(file), "--plan", stdout=out)
    assert refused.value.returncode == 1
    assert out.getvalue().splitlines() == ["+ analysis_rules good", "! analysis_rules bad"]


def test_the_command_draws_a_table_on_a_terminal(tmp_path, monkeypatch, capsys):
    make_rule(name="no-eval")
    file = tmp_path / "c.yaml"
    file.write_text(dump(write(analysis_rules=[{"name": "no-eval", "severity": "low"}])))

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    call_command("import_config", str(file), "--plan", stdout=Terminal())
    drawn = capsys.readouterr().out
    assert "What changes" in drawn and "no-eval" in drawn and "1 updated" in drawn


def test_the_command_takes_a_preset_by_name(tmp_path):
    sync_plugins()
    call_command("import_config", "--preset", STARTER_NAME, "--apply", stdout=StringIO())
    assert GovernanceRule.objects.exists()
    for arguments in (["--plan"], ["x.yaml", "--preset", "strict", "--plan"], ["--preset", "none", "--plan"]):
        with pytest.raises(CommandError) as refused:
            call_command("import_config", *arguments, stdout=StringIO())
        assert refused.value.returncode == 2


def test_deleting_by_document_is_one_batch_in_the_journal():
    make_persona()
    rules = [make_rule() for _ in range(3)]
    before = revision()
    document = write(analysis_rules=[{"name": rule.name, "state": "absent"} for rule in rules])
    apply(document, user=SYSTEM_ACTOR, reason="gone")
    rows = ConfigurationAuditLog.objects.filter(revision__gt=before)
    assert len({row.batch for row in rows}) == 1
    assert {row.entity_type for row in rows} == {"analysis_rule", "persona_assignment"}


def test_the_page_of_imports_is_reached_from_the_list_of_presets():
    browser = sign_in(make_user("administrator"))
    listed = browser.get(reverse("admin:governance_config_preset_changelist")).content.decode()
    assert PAGE in listed
    assert Path(STARTER).stem == STARTER_NAME


@pytest.mark.parametrize("state", ["present", "created"])
def test_a_plan_does_not_tell_whether_a_guess_at_a_hidden_object_is_right(state):
    make_rule(name="hidden", severity="high")
    user = make_user()
    user.user_permissions.add(Permission.objects.get(codename="add_analysisrule"))
    told = [
        plan(write(analysis_rules=[{"name": "hidden", "severity": severity, "state": state}]), user)
        for severity in ("high", "low")
    ]
    for made in told:
        assert statuses(made) == {"hidden": "refused"} and not made.steps[0].fields
        assert [problem.detail for problem in made.problems] == ["You may not view this analysis rule."]
