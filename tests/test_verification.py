"""Does `verify_audit` see every way to falsify the record? Raw SQL, with the triggers lifted, as an intruder would."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models

from audit import triggers
from audit.journal import hash_row
from audit.models import ConfigurationAuditLog, Revision
from audit.verification import verify
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.factories import make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def rule() -> AnalysisRule:
    """A rule with a short history."""
    make_persona("security")
    rule = make_rule(name="no-eval")
    for severity in ("low", "medium", "critical"):
        rule.severity = severity
        rule.save()
    return rule


@pytest.fixture
def falsify(rule):
    """Statements on the journal that its triggers would refuse."""

    def run(*statements: str) -> None:
        triggers.lift(connection)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            triggers.install(connection)

    return run


def broken() -> list[int]:
    return [item.revision for item in verify().breaks]


def test_an_untouched_record_is_intact(rule):
    report = verify()
    assert report.intact
    assert report.rows == ConfigurationAuditLog.objects.count() == Revision.objects.get().value


def test_a_record_with_deleted_objects_and_accounts_is_intact(rule):
    rule.delete()
    make_user("viewer").delete()
    assert verify().breaks == []


def test_an_empty_journal_is_intact(db):
    ConfigurationAuditLog.objects.exists()
    assert verify().intact


def test_an_altered_row_is_named(rule, falsify):
    falsify(f"UPDATE configuration_audit_log SET changed_by = 'somebody else' WHERE revision = {rule.version - 1}")
    assert broken() == [rule.version - 1]


def test_a_row_altered_with_its_hash_is_seen_at_the_next_row(rule, falsify):
    row = ConfigurationAuditLog.objects.get(revision=rule.version - 1)
    row.changed_by = "somebody else"
    falsify(
        f"UPDATE configuration_audit_log SET changed_by = 'somebody else', row_hash = '{hash_row(row)}' "
        f"WHERE revision = {row.revision}"
    )
    assert broken() == [rule.version]


def test_a_removed_last_row_is_seen(rule, falsify):
    falsify(f"DELETE FROM configuration_audit_log WHERE revision = {rule.version}")
    assert broken()[0] in (rule.version - 1, rule.version)
    assert any("end was removed" in item.problem for item in verify().breaks)


def test_a_removed_last_row_is_seen_when_the_counter_is_turned_back(rule, falsify):
    before = ConfigurationAuditLog.objects.get(revision=rule.version - 1)
    falsify(
        f"DELETE FROM configuration_audit_log WHERE revision = {rule.version}",
        f"UPDATE configuration_revision SET value = {before.revision}, last_hash = '{before.row_hash}'",
    )
    problems = [item.problem for item in verify().breaks]
    assert any("newer than the journal" in problem for problem in problems)


def test_a_removed_row_in_the_middle_is_seen(rule, falsify):
    falsify(f"DELETE FROM configuration_audit_log WHERE revision = {rule.version - 2}")
    assert broken()[0] == rule.version - 2


def test_an_altered_history_row_is_seen(rule, falsify):
    falsify(f"UPDATE analysis_rules_history SET severity = 'info' WHERE version = {rule.version - 1}")
    assert broken() == [rule.version - 1]


def test_a_removed_history_row_is_seen(rule, falsify):
    falsify(f"DELETE FROM analysis_rules_history WHERE version = {rule.version - 1}")
    assert broken() == [rule.version - 1]


def test_a_history_row_put_in_by_hand_is_seen(rule):
    row = AnalysisRule.history.first()
    row.pk = None
    models.Model.save(row, force_insert=True)
    assert any("not in the journal" in item.problem for item in verify().breaks)


def test_a_rule_changed_by_sql_is_seen(rule, falsify):
    falsify(f"UPDATE analysis_rules SET severity = 'info' WHERE id = {rule.pk}")
    (found,) = verify().breaks
    assert "no-eval was changed past the journal" in found.problem


def test_a_rule_removed_by_sql_is_seen(rule, falsify):
    falsify(
        f"DELETE FROM persona_rule_assignments WHERE rule_id = {rule.pk}",
        f"DELETE FROM analysis_rules WHERE id = {rule.pk}",
    )
    assert sum("removed past the journal" in item.problem for item in verify().breaks) == 2


def test_what_an_analyzer_calls_secret_today_does_not_matter(rule, monkeypatch):
    """The journal shows what was masked when it was written: a newer analyzer with a secret is no falsification."""
    plugin = Plugin.objects.get(name="patterns")
    plugin.configuration = {"max_findings_per_file": 7}
    plugin.save()
    schema = {"type": "object", "properties": {"max_findings_per_file": {"type": "integer", "secret": True}}}
    monkeypatch.setattr(plugin.analyzer, "configuration_schema", schema)
    assert verify().breaks == []


def test_a_journal_rewritten_as_a_whole_does_not_pass_a_checkpoint(rule, falsify, tmp_path, capsys):
    kept = tmp_path / "checkpoint.json"
    call_command("verify_audit", write_checkpoint=str(kept))
    row = ConfigurationAuditLog.objects.get(revision=rule.version)
    row.changed_by = "somebody else"
    forged = hash_row(row)
    falsify(
        f"UPDATE configuration_audit_log SET changed_by = 'somebody else', row_hash = '{forged}' "
        f"WHERE revision = {row.revision}",
        f"UPDATE configuration_revision SET last_hash = '{forged}'",
    )
    assert verify().intact
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_audit", against=[str(kept)], stdout=out)
    assert ended.value.code == 1
    assert f"revision {rule.version}: the row is not the one that the checkpoint knows" in out.getvalue()


def test_the_command_names_the_first_broken_revision_and_fails(rule, falsify, capsys):
    falsify(f"UPDATE configuration_audit_log SET changed_by = 'x' WHERE revision = {rule.version - 1}")
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_audit", format="json", stdout=out)
    assert ended.value.code == 1
    document = json.loads(out.getvalue())
    assert document["intact"] is False
    assert document["breaks"][0]["revision"] == rule.version - 1


def test_the_command_says_that_all_is_well(rule, capsys):
    call_command("verify_audit")
    assert f"Intact: {rule.version} rows." in capsys.readouterr().err


def test_a_file_that_is_no_checkpoint_is_refused(rule, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    with pytest.raises(CommandError, match="is no checkpoint"):
        call_command("verify_audit", against=[str(wrong)])
