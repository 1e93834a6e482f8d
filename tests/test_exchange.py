"""Export and import: by names, all or nothing, the same document out that went in."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command

from audit.exchange import FORMAT, InvalidDocument, apply, dump, export_document, parse
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR, grant
from governance_config.management.commands.prepare import STARTER
from overrides.models import GovernanceRule
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from plugins.services import sync_plugins
from rules.models import AnalysisRule
from tests.factories import make_assignment, make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db


def export(path: Path, *arguments: str) -> str:
    call_command("export_config", "--output", str(path), *arguments)
    return path.read_text(encoding="utf-8")


def import_(path: Path, *arguments: str) -> str:
    out = StringIO()
    call_command("import_config", str(path), *arguments, stdout=out)
    return out.getvalue()


def empty() -> None:
    GovernanceRule.objects.all().delete()
    PersonaRuleAssignment.objects.all().delete()
    AnalysisRule.objects.all().delete()
    Persona.objects.all().delete()


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_an_export_imported_into_an_empty_database_exports_the_same_bytes(tmp_path, form):
    sync_plugins()
    apply(parse(STARTER.read_bytes()), user=SYSTEM_ACTOR)
    unspoken = make_rule(name="nobody-speaks-for-it", title="Größe: 100 % – ¿qué?\n  two lines")
    # No rule of governance forbids it here: the document must carry it.
    GovernanceRule.objects.filter(name="enabled-rules-have-a-persona").delete()
    unspoken.assignments.all().delete()
    make_assignment(make_rule(name="two-voices"), Persona.objects.create(name="guest"), confidence_score="0.25")
    before = export(tmp_path / f"before.{form}", "--format", form)
    empty()
    import_(tmp_path / f"before.{form}", "--apply")
    assert export(tmp_path / f"after.{form}", "--format", form) == before


def test_importing_what_is_already_there_changes_nothing(tmp_path):
    make_persona()
    make_rule()
    file = tmp_path / "configuration.yaml"
    export(file)
    before = current_revision()
    assert import_(file, "--apply") == ""
    assert current_revision() == before


def test_a_plan_tells_every_field_and_changes_nothing(tmp_path):
    make_rule(name="no-eval")
    file = tmp_path / "configuration.yaml"
    document = yaml.safe_load(export(file))
    document["analysis_rules"][0]["severity"] = "low"
    document["personas"].append({"name": "guest"})
    file.write_text(yaml.safe_dump(document))
    before = current_revision()
    lines = import_(file, "--plan").splitlines()
    assert lines == ["~ analysis_rules no-eval", '    severity: "high" -> "low"', "+ personas guest"]
    assert current_revision() == before
    assert AnalysisRule.objects.get().severity == "high"
    assert not Persona.objects.exists()


def test_an_import_is_one_batch_with_actor_and_reason(tmp_path):
    user = make_user("administrator")
    make_rule()
    file = tmp_path / "configuration.yaml"
    export(file)
    empty()
    before = current_revision()
    import_(file, "--apply", "--as", user.username, "--reason", "from staging")
    rows = ConfigurationAuditLog.objects.filter(revision__gt=before)
    assert len({row.batch for row in rows}) == 1
    assert {(row.changed_by, row.source, row.change_reason) for row in rows} == {
        (user.username, "command", "from staging")
    }


def test_one_bad_entry_among_many_leaves_nothing_and_is_named():
    sync_plugins()
    entries = [
        {"name": f"rule-{number}", "rule_type": "security", "configuration": {"pattern": "eval"}}
        for number in range(500)
    ]
    entries[321]["severity"] = "dreadful"
    entries[400]["configuration"] = {"pattern": "(?=x)"}
    before = current_revision()
    with pytest.raises(InvalidDocument) as refused:
        apply({"format": FORMAT, "analysis_rules": entries}, user=SYSTEM_ACTOR)
    assert [(problem.pointer, problem.name) for problem in refused.value.problems] == [
        ("/analysis_rules/321/severity", "rule-321"),
        ("/analysis_rules/400/configuration/pattern", "rule-400"),
    ]
    assert current_revision() == before
    assert not AnalysisRule.objects.exists()


def test_what_a_document_does_not_mention_stays():
    kept = make_rule(description="kept", severity="high")
    document = {"format": FORMAT, "analysis_rules": [{"name": kept.name, "severity": "low"}]}
    other = make_rule()
    apply(document, user=SYSTEM_ACTOR)
    kept.refresh_from_db()
    assert (kept.severity, kept.description) == ("low", "kept")
    assert AnalysisRule.objects.filter(pk=other.pk).exists()


def test_imported_rules_get_default_personas_unless_the_document_has_assignments():
    make_persona()
    sync_plugins()
    rule = {"rule_type": "security", "configuration": {"pattern": "eval"}}
    apply({"format": FORMAT, "analysis_rules": [{"name": "one", **rule}]}, user=SYSTEM_ACTOR)
    apply({"format": FORMAT, "analysis_rules": [{"name": "two", **rule}], "persona_assignments": []}, user=SYSTEM_ACTOR)
    assert list(PersonaRuleAssignment.objects.values_list("rule__name", flat=True)) == ["one"]


def test_plugins_that_depend_on_each_other_are_switched_together():
    sync_plugins()
    switched = [{"name": "patterns", "enabled": False}, {"name": "secrets", "enabled": False}]
    apply({"format": FORMAT, "plugins": switched}, user=SYSTEM_ACTOR)
    assert not Plugin.objects.filter(enabled=True, name__in=["patterns", "secrets"]).exists()


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        ({}, "/format", "must be"),
        ({"format": "other/9"}, "/format", "must be"),
        ({"format": FORMAT, "rules": []}, "/rules", "No such section"),
        ({"format": FORMAT, "personas": {"name": "x"}}, "/personas", "list"),
        ({"format": FORMAT, "personas": ["x"]}, "/personas/0", "object"),
        ({"format": FORMAT, "personas": [{"name": "x", "colour": "red"}]}, "/personas/0/colour", "No such field"),
        ({"format": FORMAT, "personas": [{"title": "x"}]}, "/personas/0/name", "needs"),
        ({"format": FORMAT, "personas": [{"name": "x"}, {"name": "x"}]}, "/personas/1", "twice"),
        ({"format": FORMAT, "personas": [{"name": "x", "voice": 7}]}, "/personas/0", ""),
        ({"format": FORMAT, "personas": [{"name": "x", "rule_types": "all"}]}, "/personas/0/rule_types", "list"),
        ({"format": FORMAT, "plugins": [{"name": "nowhere"}]}, "/plugins/0/name", "installed"),
        (
            {"format": FORMAT, "persona_assignments": [{"rule": "no", "persona": "one"}]},
            "/persona_assignments/0/rule",
            "There is no",
        ),
    ],
)
def test_a_document_that_cannot_be_applied_says_where_and_why(document, pointer, words):
    if "7" in str(document):
        apply(document, user=SYSTEM_ACTOR)  # a number is text well enough
        assert Persona.objects.get().voice == "7"
        return
    before = current_revision()
    with pytest.raises(InvalidDocument) as refused:
        apply(document, user=SYSTEM_ACTOR)
    assert any(problem.pointer == pointer and words in problem.detail for problem in refused.value.problems)
    assert current_revision() == before


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- just\n- a list",
        "just text",
        "a: &x [1]\nb: *x",
        "\x00",
        "a: !!python/object:os.system {}",
        "[" * 5000,
    ],
)
def test_text_that_is_no_document_is_refused(text):
    with pytest.raises(InvalidDocument):
        parse(text)


def test_the_command_refuses_with_one_and_writes_nothing(tmp_path):
    file = tmp_path / "configuration.yaml"
    file.write_text(dump({"format": FORMAT, "personas": [{"name": "UPPER CASE"}]}))
    with pytest.raises(CommandError, match="/personas/0/name") as refused:
        import_(file, "--apply")
    assert refused.value.returncode == 1


def test_an_export_holds_what_its_reader_may_see():
    seen, hidden = make_rule(), make_rule()
    user = make_user()
    grant(action="view", holder=user, target=seen)
    document = export_document(user)
    assert [entry["name"] for entry in document["analysis_rules"]] == [seen.name]
    assert hidden.name not in dump(document)


def test_an_export_has_no_keys_times_or_authors(tmp_path):
    make_persona()
    make_rule()
    entry = yaml.safe_load(export(tmp_path / "e.yaml"))["analysis_rules"][0]
    assert not {"id", "version", "created_at", "updated_at", "created_by"} & set(entry)


def test_switching_a_plugin_by_document_needs_the_right_to_switch_it():
    sync_plugins()
    user = make_user("viewer")
    plugin = Plugin.objects.get(name="secrets")
    grant(action="change", holder=user, target=plugin)
    entry = {"name": "secrets", "enabled": False, "configuration": {"max_findings_per_file": 3}}
    with pytest.raises(InvalidDocument, match="may not toggle"):
        apply({"format": FORMAT, "plugins": [entry]}, user=type(user).objects.get(pk=user.pk))
    assert Plugin.objects.get(name="secrets").enabled
