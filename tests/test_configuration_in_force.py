"""The configuration in force: whole, of one revision, overrides judged by the clock, shared between processes."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.db import models
from django.utils import timezone

from audit.cache import PlainSerializer
from audit.changes import change_set
from audit.journal import current_revision
from audit.models import Revision
from overrides import effective, sharing
from overrides.effective import load_configuration
from overrides.stored import read_mark
from overrides.validation import merge_patch
from personas.models import Persona
from plugins import registry
from plugins.services import toggle
from rules.models import AnalysisRule
from tests.factories import make_override, make_persona, make_rule

pytestmark = pytest.mark.django_db


def in_force(rule_name: str, configuration) -> dict | None:
    return next((rule for rule in configuration.rules if rule["name"] == rule_name), None)


def test_it_holds_enabled_rules_with_their_personas_at_the_present_revision():
    make_persona()
    rule, off = make_rule(), make_rule(enabled=False)
    configuration = load_configuration()
    assert configuration.revision == current_revision()
    assert in_force(rule.name, configuration)["personas"] == ["security"]
    assert in_force(off.name, configuration) is None
    assert [item["name"] for item in configuration.plugins] == sorted(registry.analyzers())


def test_an_edit_is_in_the_next_answer():
    rule = make_rule()
    before = load_configuration()
    rule.severity = "low"
    rule.save()
    after = load_configuration()
    assert in_force(rule.name, before)["severity"] == "high"
    assert in_force(rule.name, after)["severity"] == "low"
    assert after.etag != before.etag


def test_nothing_is_read_again_while_nothing_changes(django_assert_num_queries):
    make_rule()
    first = load_configuration()
    with django_assert_num_queries(1):
        assert load_configuration() is first


def test_rules_of_a_disabled_plugin_do_not_run():
    make_rule()
    with change_set():
        toggle(name="secrets", enabled=False)
        toggle(name="patterns", enabled=False)
    assert load_configuration().specs == ()


def approved(rule_name: str, override_config: dict, days: float = 1, **fields):
    return make_override(
        rule_name,
        override_config=override_config,
        status="active",
        enabled=True,
        approved_by="approver",
        expires_at=timezone.now() + timedelta(days=days),
        **fields,
    )


def test_an_approved_override_is_in_force_until_it_expires_without_any_job():
    rule = make_rule()
    override = approved(rule.name, {"severity": "info"})
    now = load_configuration()
    assert in_force(rule.name, now)["severity"] == "info"
    assert in_force(rule.name, now)["overridden_by"] == [override.pk]
    assert now.valid_until == override.expires_at

    later = load_configuration(override.expires_at + timedelta(seconds=1))
    assert later.revision == now.revision
    assert in_force(rule.name, later)["severity"] == "high"
    assert later.etag != now.etag


def test_an_override_that_is_only_proposed_is_not_in_force():
    rule = make_rule()
    make_override(rule.name, override_config={"severity": "info"})
    assert in_force(rule.name, load_configuration())["severity"] == "high"


def test_an_override_may_switch_a_rule_off_and_another_one_on():
    silenced, woken = make_rule(), make_rule(enabled=False)
    approved(silenced.name, {"enabled": False})
    approved(woken.name, {"enabled": True})
    names = {rule["name"] for rule in load_configuration().rules}
    assert silenced.name not in names
    assert woken.name in names


def test_an_override_limited_to_paths_does_not_change_the_rule_everywhere():
    rule = make_rule()
    override = approved(rule.name, {"severity": "info"}, paths=["legacy/**"])
    configuration = load_configuration()
    assert in_force(rule.name, configuration)["severity"] == "high"
    assert [item["id"] for item in configuration.overrides] == [override.pk]


@pytest.fixture
def with_redis(settings):
    """As on a server with REDIS_URL; the cache of the tests stands in for it."""
    settings.REDIS_URL = "redis://stand-in"


def start_another_process() -> None:
    effective._kept = None


def test_one_edit_reads_one_rule_again(django_assert_num_queries):
    rule = make_rule()
    for _ in range(3):
        make_rule()
    before = load_configuration()
    rule.severity = "low"
    rule.save()
    with django_assert_num_queries(5) as statements:
        after = load_configuration()
    assert sum('FROM "analysis_rules"' in query["sql"] for query in statements) == 1
    untouched = [name for name in after.entries if name != rule.name]
    assert len(untouched) == 3
    assert all(after.entries[name] is before.entries[name] for name in untouched)


def test_a_lapse_derives_the_overridden_rule_alone(django_assert_num_queries):
    rule, other = make_rule(), make_rule()
    override = approved(rule.name, {"severity": "info"})
    now = load_configuration()
    with django_assert_num_queries(3):  # of the revision alone
        later = load_configuration(override.expires_at)
    assert in_force(rule.name, later)["severity"] == "high"
    assert later.entries[other.name] is now.entries[other.name]
    assert later.evaluated_at == override.expires_at


def test_after_very_many_changes_everything_is_read(monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(effective, "MAX_STEPS", 2)
    rule = make_rule()
    load_configuration()
    for severity in ("low", "medium", "critical"):
        rule.severity = severity
        rule.save()
    with django_assert_num_queries(9):
        assert in_force(rule.name, load_configuration())["severity"] == "critical"


@pytest.mark.parametrize("moved", ["epoch", "hash"])
def test_another_history_is_read_from_the_start(moved):
    """As after a restored backup: the revision may be the same, or a later one, and what is stored another."""
    rule = make_rule()
    load_configuration()
    models.QuerySet(AnalysisRule).filter(pk=rule.pk).update(severity="low")
    if moved == "epoch":
        models.QuerySet(Revision).update(epoch=uuid4())
    else:
        models.QuerySet(Revision).update(last_hash="0" * 64)
    assert in_force(rule.name, load_configuration())["severity"] == "low"


def test_a_process_that_starts_takes_what_another_one_built(with_redis, django_assert_num_queries):
    rule = make_rule()
    built = load_configuration()
    sharing.share(built.stored)
    start_another_process()
    with django_assert_num_queries(2):  # of the revision alone
        shared = load_configuration()
    assert shared is not built
    assert (shared.etag, shared.body, shared.specs) == (built.etag, built.body, built.specs)
    assert in_force(rule.name, shared)


def test_a_process_that_starts_goes_on_from_what_was_shared_earlier(with_redis, django_assert_num_queries):
    rule, other = make_rule(), make_rule()
    sharing.share(load_configuration().stored)
    rule.severity = "low"
    rule.save()
    start_another_process()
    with django_assert_num_queries(4):
        followed = load_configuration()
    assert in_force(rule.name, followed)["severity"] == "low"
    assert in_force(other.name, followed)


def test_what_was_read_is_shared_beside_the_answer(with_redis):
    make_rule()
    load_configuration()
    for thread in threading.enumerate():
        if thread.name == "share configuration":
            thread.join()
    assert sharing._shared_last == load_configuration().stored.mark


@pytest.mark.parametrize("found", [b"", b"garbage", "text", [1], {"rules": []}])
def test_a_shared_cache_that_holds_something_else_is_not_believed(with_redis, found):
    rule = make_rule()
    cache.set(sharing.key_of(read_mark().epoch), found)
    assert in_force(rule.name, load_configuration())


def test_what_another_installation_has_signed_is_not_believed(with_redis, settings):
    rule = make_rule()
    foreign = replace(load_configuration().stored, rules={}, ids={})
    key, settings.SECRET_KEY = settings.SECRET_KEY, "somebody else's"
    sharing.share(foreign)
    settings.SECRET_KEY = key
    start_another_process()
    assert in_force(rule.name, load_configuration())


def test_it_works_without_the_shared_cache(with_redis, monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError("no cache")

    monkeypatch.setattr(cache, "get", fail)
    monkeypatch.setattr(cache, "set", fail)
    rule = make_rule()
    assert in_force(rule.name, load_configuration())


@pytest.mark.parametrize("value", [7, -1, b"", b"\x00bytes", "text", 1.5, None, True, [1, "a"], {"a": [None]}])
def test_redis_holds_plain_values(value):
    serializer = PlainSerializer()
    stored = serializer.dumps(value)
    assert serializer.loads(stored if isinstance(stored, bytes) else str(stored).encode()) == value
    assert type(serializer.loads(str(stored).encode() if isinstance(stored, int) else stored)) is type(value)


def test_what_redis_holds_is_never_run():
    with pytest.raises(TypeError):
        PlainSerializer().dumps(object())
    with pytest.raises(ValueError):
        PlainSerializer().loads(pickle.dumps({"a": 1}))


def test_a_reader_disturbed_by_writers_gets_one_revision(monkeypatch):
    """Somebody changes a persona after the rules were read: the answer must not mix the two states."""
    persona = make_persona()
    make_rule()
    read_all, disturbances = effective.read_all, iter(range(2))

    def disturbed(mark):
        parts = read_all(mark)
        if next(disturbances, None) is not None:
            stored = Persona.objects.get(pk=persona.pk)
            stored.voice += "."
            stored.save()
        return parts

    monkeypatch.setattr(effective, "read_all", disturbed)
    configuration = load_configuration()
    assert configuration.revision == current_revision()
    assert configuration.personas[0]["voice"] == Persona.objects.get().voice


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": [1]}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ("text", {"a": 1}, {"a": 1}),
    ],
)
def test_merge_patch_follows_the_standard(target, patch, merged):
    assert merge_patch(target, patch) == merged
