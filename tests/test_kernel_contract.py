"""The kernel's contract, over every governed model and every door below the admin and the API."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.serializers import serialize
from django.db import IntegrityError, connection, models, transaction
from guardian.shortcuts import assign_perm, remove_perm

from audit import triggers
from audit.changes import Origin, change_set, current_change_set, originating
from audit.documents import read_content
from audit.errors import StaleVersion, StateConflict, UngovernedWrite
from audit.governed import digest_history, governed_models, save_all
from audit.journal import current_revision, hash_row
from audit.models import ConfigurationAuditLog, Revision
from audit.permissions import has_grants, permission_name
from overrides.models import ApprovalPolicy, Webhook
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.factories import build_rule, make_assignment, make_persona, make_plugins, make_rule, make_user
from tests.kinds import KINDS

pytestmark = pytest.mark.django_db

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.model.__name__)


def rows_since(revision: int) -> list[ConfigurationAuditLog]:
    return list(ConfigurationAuditLog.objects.filter(revision__gt=revision).order_by("revision"))


def test_every_governed_model_has_its_example():
    assert {kind.model for kind in KINDS} == set(governed_models())


@each_kind
class TestEveryGovernedModel:
    def test_creating_leaves_one_row_with_what_is_new(self, kind):
        made = kind.make()
        (row,) = ConfigurationAuditLog.objects.filter(
            entity_type=kind.model.entity_type, entity_id=made.entity_id, change_type=kind.created
        )
        assert row.old_config is None
        assert row.new_config == json.loads(json.dumps(made.document()))
        assert row.revision == made.version

    def test_saving_leaves_one_row_with_old_and_new_actor_origin_and_reason(self, kind):
        item, user = kind.make(), make_user("administrator")
        before, old = current_revision(), item.document()
        for name, value in kind.change.items():
            setattr(item, name, value)
        origin = Origin(source="api", user=user, ip_address="192.0.2.7", user_agent="probe/1", reason="because")
        dependents = Plugin.objects.filter(enabled=True).exclude(pk=item.pk) if kind.model is Plugin else []
        with originating(origin), change_set():
            for dependent in dependents:
                dependent.enabled = False
                dependent.save()
            before = current_revision() + len(dependents)
            item.save()
        row = rows_since(before)[-1]
        assert row.change_type == kind.updated
        assert row.old_config == old
        assert row.new_config == {**old, **kind.change}
        assert (row.changed_by, row.actor_kind, row.actor_id) == (user.username, "user", str(user.pk))
        assert (row.source, row.ip_address, row.user_agent) == ("api", "192.0.2.7", "probe/1")
        assert (row.change_reason, row.batch) == ("because", origin.batch)
        assert kind.model.objects.get(pk=item.pk).version == row.revision

    def test_the_journal_row_points_to_an_exact_history_row(self, kind):
        item = kind.make()
        row = ConfigurationAuditLog.objects.get(revision=item.version)
        history_row = kind.model.history.get(pk=row.history_id)
        assert read_content(kind.model, history_row) == read_content(kind.model, item)
        assert row.history_digest == digest_history(kind.model, history_row)

    def test_saving_without_a_change_leaves_nothing(self, kind):
        item = kind.make()
        before, history = current_revision(), kind.model.history.count()
        kind.model.objects.get(pk=item.pk).save()
        assert rows_since(before) == []
        assert kind.model.history.count() == history
        assert current_revision() == before

    def test_deleting_leaves_one_row_with_what_was(self, kind):
        item = kind.make()
        remove_dependents(item)
        before, key = current_revision(), item.entity_id
        old = item.document()
        item.delete()
        rows = [row for row in rows_since(before) if row.entity_type == kind.model.entity_type]
        assert [(row.change_type, row.entity_id, row.old_config, row.new_config) for row in rows] == [
            (kind.deleted, key, old, None)
        ]

    def test_deleting_an_object_with_unsaved_edits_records_what_was_stored(self, kind):
        item = kind.make()
        remove_dependents(item)
        old = item.document()
        for name, value in kind.change.items():
            setattr(item, name, value)
        item.delete()
        assert ConfigurationAuditLog.objects.filter(change_type=kind.deleted).first().old_config == old

    def test_deleting_a_queryset_leaves_a_row_for_each(self, kind):
        item = kind.make()
        remove_dependents(item)
        before = current_revision()
        kind.model.objects.filter(pk=item.pk).delete()
        rows = [row for row in rows_since(before) if row.entity_type == kind.model.entity_type]
        assert [row.change_type for row in rows] == [kind.deleted]

    def test_set_based_side_doors_are_refused(self, kind):
        item = kind.make()
        before = current_revision()
        name = next(iter(kind.change))
        for manager in (kind.model.objects, kind.model._base_manager, kind.model._default_manager):
            with pytest.raises(UngovernedWrite, match="save_all"):
                manager.filter(pk=item.pk).update(**kind.change)
            with pytest.raises(UngovernedWrite):
                manager.bulk_create([kind.model()])
            with pytest.raises(UngovernedWrite):
                manager.bulk_update([item], [name])
        assert rows_since(before) == []
        assert kind.model.objects.get(pk=item.pk).document() == item.document()

    def test_saving_past_history_is_refused_and_undone(self, kind):
        item = kind.make()
        stored = item.document()
        for name, value in kind.change.items():
            setattr(item, name, value)
        item.skip_history_when_saving = True
        with pytest.raises(UngovernedWrite), transaction.atomic():
            item.save()
        assert kind.model.objects.get(pk=item.pk).document() == stored

    def test_loaddata_is_refused_and_writes_nothing(self, kind, tmp_path):
        item = kind.make()
        fixture = tmp_path / "fixture.json"
        fixture.write_text(serialize("json", [item]))
        remove_dependents(item)
        item.delete()
        before = current_revision()
        with pytest.raises(Exception, match="import_config"):
            call_command("loaddata", str(fixture), verbosity=0)
        assert rows_since(before) == []

    def test_two_readers_cannot_overwrite_each_other(self, kind):
        kind_key = kind.make().pk
        first, second = kind.model.objects.get(pk=kind_key), kind.model.objects.get(pk=kind_key)
        with change_set():
            if kind.model is Plugin:
                for dependent in Plugin.objects.exclude(pk=kind_key):
                    dependent.enabled = False
                    dependent.save()
            for name, value in kind.change.items():
                setattr(first, name, value)
                setattr(second, name, value)
            first.save()
        with pytest.raises(StaleVersion, match=str(first.version)):
            second.save()

    def test_the_set_based_write_leaves_the_same_record_as_save(self, kind):
        if kind.model is Plugin:
            make_plugins()
            items = list(Plugin.objects.filter(enabled=True))
        else:
            items = [kind.make()]
        before = current_revision()
        for item in items:
            for name, value in kind.change.items():
                setattr(item, name, value)
        changed = save_all(items)
        rows = rows_since(before)
        assert [row.change_type for row in rows] == [kind.updated] * len(items)
        assert [row.revision for row in rows] == [item.version for item in changed]
        for row, item in zip(rows, changed, strict=True):
            history_row = kind.model.history.get(pk=row.history_id)
            assert row.history_digest == digest_history(kind.model, history_row)
            assert row.new_config == kind.model.objects.get(pk=item.pk).document()
        again = current_revision()
        assert save_all(list(kind.model.objects.filter(pk__in=[item.pk for item in items]))) == []
        assert current_revision() == again

    def test_guardian_grants_are_journalled_when_given_and_taken(self, kind):
        item, user = kind.make(), make_user()
        before = current_revision()
        name = permission_name("view", kind.model)
        assign_perm(name, user, item)
        assign_perm(name, user, item)
        remove_perm(name, user, item)
        rows = rows_since(before)
        if kind.model is PersonaRuleAssignment:
            return
        assert [row.change_type for row in rows] == ["grant_added", "grant_removed"]
        assert rows[0].new_config == rows[1].old_config
        assert rows[0].new_config["user"] == user.username
        assert rows[0].new_config["entity_type"] == kind.model.entity_type

    def test_bulk_grants_are_refused(self, kind):
        item, user = kind.make(), make_user()
        if not has_grants(kind.model):
            return
        with pytest.raises(UngovernedWrite, match="one by one"):
            assign_perm(permission_name("view", kind.model), user, kind.model.objects.filter(pk=item.pk))

    def test_text_that_a_database_cannot_store_names_its_field(self, kind):
        item = kind.make()
        name = next(name for name, value in {**kind.change, "configuration": {}}.items() if not isinstance(value, bool))
        setattr(item, name, {"a": "\x00"} if name == "configuration" else "\x00")
        with pytest.raises(ValidationError) as refused:
            item.save()
        assert name in refused.value.message_dict


def remove_dependents(item: models.Model) -> None:
    if isinstance(item, Persona):
        item.assignments.all().delete()
    if isinstance(item, Plugin):
        for dependent in Plugin.objects.exclude(pk=item.pk):
            dependent.enabled = False
            dependent.save()


def test_a_change_set_is_one_batch_with_one_reason():
    make_plugins()
    with change_set(reason="spring cleaning"):
        build_rule().save()
        build_rule().save()
    rows = ConfigurationAuditLog.objects.filter(change_type="rule_created")
    assert {row.change_reason for row in rows} == {"spring cleaning"}
    assert len({row.batch for row in rows}) == 1


def test_a_failing_change_set_leaves_nothing():
    rule = make_rule()
    before = current_revision()
    with pytest.raises(RuntimeError), change_set():
        rule.severity = "low"
        rule.save()
        raise RuntimeError
    assert current_revision() == before
    assert rows_since(before) == []
    assert AnalysisRule.objects.get(pk=rule.pk).severity == "high"


def test_changes_of_a_savepoint_that_is_rolled_back_are_not_journalled_and_leave_no_gap():
    make_plugins()
    before = current_revision()
    with change_set():
        build_rule(name="first").save()
        with pytest.raises(RuntimeError), transaction.atomic():
            build_rule(name="lost").save()
            raise RuntimeError
        build_rule(name="second").save()
    rows = rows_since(before)
    assert [row.entity_name for row in rows] == ["first", "second"]
    assert [row.revision for row in rows] == [before + 1, before + 2]


def test_revisions_are_gapless_and_every_row_carries_the_hash_of_the_one_before():
    rule = make_rule()
    rule.severity = "low"
    rule.save()
    rule.delete()
    rows = list(ConfigurationAuditLog.objects.order_by("revision"))
    assert [row.revision for row in rows] == list(range(1, len(rows) + 1))
    previous = ""
    for row in rows:
        assert row.previous_hash == previous
        assert row.row_hash == hash_row(row)
        previous = row.row_hash
    assert Revision.objects.get().last_hash == previous


def test_a_cascade_is_journalled_object_by_object():
    make_persona()
    rule = make_rule()
    before = current_revision()
    rule.delete()
    assert [(row.change_type, row.old_config is None) for row in rows_since(before)] == [
        ("persona_unassigned", False),
        ("rule_deleted", False),
    ]


def test_a_cascade_from_an_account_is_journalled():
    rule, user = make_rule(), make_user("viewer")
    assign_perm(permission_name("change", rule), user, rule)
    before = current_revision()
    user.delete()
    assert sorted(row.change_type for row in rows_since(before)) == [
        "grant_removed",
        "role_membership_removed",
        "user_deleted",
    ]


def test_group_membership_is_journalled_from_both_sides_and_on_clear():
    user, group = make_user(), Group.objects.get(name="auditor")
    before = current_revision()
    user.groups.add(group)
    group.user_set.remove(user)
    group.user_set.add(user)
    user.groups.clear()
    rows = rows_since(before)
    assert [row.change_type for row in rows] == ["role_membership_added", "role_membership_removed"] * 2
    assert all((row.new_config or row.old_config) == {"holder": user.username, "rights": ["auditor"]} for row in rows)


def test_a_membership_row_written_directly_is_journalled():
    user, group = make_user(), Group.objects.get(name="auditor")
    before = current_revision()
    type(user).groups.through.objects.create(user=user, group=group)
    assert [row.change_type for row in rows_since(before)] == ["role_membership_added"]


def test_becoming_superuser_is_journalled_and_signing_in_is_not():
    user = make_user()
    before = current_revision()
    user.is_superuser = True
    user.save()
    user.last_login = user.date_joined
    user.save(update_fields=["last_login"])
    user.set_password("another long passphrase")
    user.save()
    rows = rows_since(before)
    assert [row.change_type for row in rows] == ["user_updated", "user_password_changed"]
    assert rows[0].new_config["is_superuser"] is True
    assert "password" not in json.dumps([rows[0].new_config, rows[1].new_config])


def test_deleting_what_others_depend_on_names_them():
    rule = make_rule(name="needs-it")
    with pytest.raises(StateConflict, match="needs-it"):
        rule.plugin.delete()
    persona = make_persona("performance", rule_types=[])
    make_assignment(rule, persona)
    with pytest.raises(StateConflict, match="performance for needs-it"):
        persona.delete()


def test_update_fields_stores_nothing_else_and_history_says_so():
    rule = make_rule(title="Before")
    rule.severity, rule.title = "low", "Not to be stored"
    rule.save(update_fields=["severity"])
    assert AnalysisRule.objects.get(pk=rule.pk).title == "Before"
    assert rule.history.first().title == "Before"


def test_update_or_create_is_an_ordinary_save():
    rule = make_rule()
    AnalysisRule.objects.update_or_create(name=rule.name, defaults={"severity": "low"})
    assert ConfigurationAuditLog.objects.first().new_config["severity"] == "low"


def test_a_name_is_fixed():
    rule = make_rule()
    rule.name = "another"
    with pytest.raises(ValidationError, match="fixed"):
        rule.save()


@pytest.mark.parametrize("statement", ["UPDATE {} SET changed_by = 'nobody'", "DELETE FROM {}"])
def test_the_database_refuses_to_change_the_journal(statement):
    make_rule()
    count = ConfigurationAuditLog.objects.count()
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(triggers.JOURNAL))
    assert ConfigurationAuditLog.objects.count() == count
    assert not ConfigurationAuditLog.objects.filter(changed_by="nobody").exists()


def test_the_models_refuse_to_change_the_journal():
    make_rule()
    row = ConfigurationAuditLog.objects.first()
    for attempt in (
        row.save,
        row.delete,
        ConfigurationAuditLog.objects.all().delete,
        lambda: ConfigurationAuditLog.objects.update(changed_by="nobody"),
        lambda: ConfigurationAuditLog.objects.create(revision=9),
    ):
        with pytest.raises(UngovernedWrite):
            attempt()


@pytest.mark.django_db(transaction=True)
def test_the_triggers_are_back_after_a_flush():
    make_rule()
    call_command("flush", interactive=False, verbosity=0)
    make_rule()
    with pytest.raises(IntegrityError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {triggers.JOURNAL}")


@pytest.mark.django_db(transaction=True)
def test_no_change_set_outlives_its_block():
    make_plugins()
    with pytest.raises(ValidationError):
        build_rule(severity="dreadful").save()
    assert current_change_set() is None
    assert not connection.in_atomic_block


def test_a_dry_run_checks_everything_and_stores_nothing():
    make_plugins()
    before = current_revision()
    with change_set(dry_run=True):
        build_rule().save()
    assert current_revision() == before
    assert not AnalysisRule.objects.exists()


def test_a_command_leaves_the_same_record_as_any_door(tmp_path):
    rule, user = make_rule(), make_user("administrator")
    document = tmp_path / "configuration.yaml"
    call_command("export_config", output=document)
    document.write_text(document.read_text().replace("severity: high", "severity: low"))
    before = current_revision()
    call_command(
        "import_config", str(document), "--apply", "--as", user.username, "--reason", "calm down", stdout=StringIO()
    )
    (row,) = rows_since(before)
    assert (row.change_type, row.entity_id, row.source) == ("rule_updated", str(rule.pk), "command")
    assert (row.changed_by, row.change_reason) == (user.username, "calm down")
    assert (row.old_config["severity"], row.new_config["severity"]) == ("high", "low")


def test_a_command_asks_for_the_rights_of_the_user_it_acts_for(tmp_path):
    make_rule()
    user = make_user("persona manager")
    document = tmp_path / "configuration.yaml"
    call_command("export_config", output=document)
    document.write_text(document.read_text().replace("severity: high", "severity: low"))
    before = current_revision()
    with pytest.raises(Exception, match="may not change this analysis rule"):
        call_command("import_config", str(document), "--apply", "--as", user.username, stdout=StringIO())
    assert current_revision() == before


def test_content_types_of_grants_are_direct_foreign_keys():
    for kind in KINDS:
        if kind.model not in (PersonaRuleAssignment, ApprovalPolicy, Webhook):  # rights on these are for all alike
            tables = [relation.related_model._meta.object_name for relation in kind.model._meta.related_objects]
            assert any("UserGrant" in name for name in tables), kind.model
    assert ContentType.objects.exists()
