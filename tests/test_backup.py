"""Does a backup bring everything back? Into an empty database, into the other kind, and never half."""

from __future__ import annotations

import gzip
import hashlib
import json
import stat

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection, models

from audit.backup import BackupError, backed_up_models, restore_backup, write_backup
from audit.exchange import dump, export_document
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog, Revision
from audit.permissions import SYSTEM_ACTOR, grant
from audit.verification import verify
from reviews.models import ReviewSession
from rules.models import AnalysisRule
from tests.factories import api_client, make_override, make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def file(tmp_path):
    """A backup of a database with something of everything."""
    make_persona("security")
    rule = make_rule(name="no-eval", title="Größe – ✓", configuration={"pattern": r"\beval\(", "ignore_case": True})
    rule.severity = "low"
    rule.save()
    make_rule(name="gone").delete()
    make_override(rule.name)
    user = make_user("viewer", username="ada")
    grant(action="change", holder=user, target=rule)
    api_client(user)
    ReviewSession.objects.create(codebase="x", root="/x", revision=1, started_by="ada", counts={"by_severity": {}})
    write_backup(tmp_path / "backup.gz")
    return tmp_path / "backup.gz"


def everything() -> dict[str, list]:
    """All rows of all tables, but for the epoch."""
    rows = {model._meta.label: list(models.QuerySet(model).order_by("pk").values()) for model in backed_up_models()}
    for row in rows["audit.Revision"]:
        del row["epoch"]
    return rows


def test_a_restore_brings_back_every_row(file):
    before = everything()
    AnalysisRule.objects.get(name="no-eval").delete()
    User.objects.get(username="ada").delete()
    make_rule(name="later")
    restore_backup(file)
    assert everything() == before
    assert verify().intact


def test_a_restored_configuration_can_be_changed_and_the_journal_goes_on(file):
    reached = current_revision()
    restore_backup(file)
    rule = AnalysisRule.objects.get(name="no-eval")
    rule.severity = "high"
    rule.save()
    make_rule(name="fresh")
    assert rule.version == reached + 1
    assert AnalysisRule.objects.get(name="fresh").pk > rule.pk
    assert verify().intact


def test_a_restore_begins_a_new_epoch(file):
    before = Revision.objects.get().epoch
    restore_backup(file)
    assert Revision.objects.get().epoch != before


def test_the_journal_refuses_changes_again_after_a_restore(file):
    restore_backup(file)
    with pytest.raises(Exception, match="append-only"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM configuration_audit_log")


def test_only_its_owner_may_read_a_backup(file):
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_export_of_a_restored_configuration_is_the_same(file):
    before = dump(export_document(SYSTEM_ACTOR))
    make_rule(name="later")
    restore_backup(file)
    assert dump(export_document(SYSTEM_ACTOR)) == before


def refused(file, match: str) -> None:
    before = everything()
    with pytest.raises(BackupError, match=match):
        restore_backup(file)
    assert everything() == before
    assert ConfigurationAuditLog.objects.exists()


def rewrite(file, change) -> None:
    lines = gzip.decompress(file.read_bytes()).decode().splitlines(keepends=True)
    file.write_bytes(gzip.compress("".join(change(lines)).encode()))


def test_half_a_backup_is_refused(file):
    file.write_bytes(file.read_bytes()[:-200])
    refused(file, "not whole")


def test_an_altered_backup_is_refused(file):
    rewrite(file, lambda lines: [line.replace("ada", "eve") for line in lines])
    refused(file, "checksum")


def test_a_file_that_is_something_else_is_refused(file):
    file.write_text("hello")
    refused(file, "no backup")


def test_a_backup_of_another_release_is_refused_by_name(file):
    def change(lines):
        head = json.loads(lines[0])
        head["migrations"].append("rules.0099_later")
        body = [json.dumps(head, separators=(",", ":"), ensure_ascii=False) + "\n", *lines[1:-1]]
        digest = hashlib.sha256("".join(body).encode()).hexdigest()
        return [*body, json.dumps({"sha256": digest}) + "\n"]

    rewrite(file, change)
    refused(file, "this database lacks rules.0099_later")


def test_a_backup_whose_journal_was_altered_is_refused(file):
    def change(lines):
        body = [line.replace('"rule_created"', '"rule_imported"') for line in lines[:-1]]
        digest = hashlib.sha256("".join(body).encode()).hexdigest()
        return [*body, json.dumps({"sha256": digest}) + "\n"]

    rewrite(file, change)
    refused(file, "does not verify")


def test_a_database_in_use_is_not_replaced_by_accident(file, capsys):
    with pytest.raises(CommandError, match="say --replace"):
        call_command("restore", str(file))
    call_command("restore", str(file), replace=True)
    assert "verified" in capsys.readouterr().err


def test_the_command_tells_what_it_wrote(file, tmp_path, capsys):
    call_command("backup", str(tmp_path / "again.gz"))
    assert f"revision {current_revision()}," in capsys.readouterr().err
    with pytest.raises(CommandError, match="Cannot write"):
        call_command("backup", str(tmp_path / "missing" / "again.gz"))


def test_only_a_superuser_makes_a_backup(tmp_path):
    make_user("administrator", username="boss")
    with pytest.raises(CommandError, match="only a superuser"):
        call_command("backup", str(tmp_path / "b.gz"), acting_user="boss")
