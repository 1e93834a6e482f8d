"""The configuration in force: whole, of one revision, overrides judged by the clock, shared between processes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from audit.changes import change_set
from audit.journal import current_revision
from overrides import effective
from overrides.effective import load_configuration
from overrides.validation import merge_patch
from personas.models import Persona
from plugins import registry
from plugins.services import toggle
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


def test_another_process_takes_what_the_first_one_built(django_assert_num_queries):
    rule = make_rule()
    built = load_configuration()
    effective._kept = None  # as in a process that has just started
    with django_assert_num_queries(2):
        shared = load_configuration()
    assert shared is not built
    assert (shared.etag, shared.body, shared.specs) == (built.etag, built.body, built.specs)
    assert in_force(rule.name, shared)


def test_it_works_without_the_shared_cache(monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError("no cache")

    monkeypatch.setattr(cache, "get", fail)
    monkeypatch.setattr(cache, "set", fail)
    rule = make_rule()
    assert in_force(rule.name, load_configuration())


def test_a_reader_disturbed_by_writers_gets_one_revision(monkeypatch):
    """Somebody changes a persona after the rules were read: the answer must not mix the two states."""
    persona = make_persona()
    make_rule()
    read_parts, disturbances = effective._read_parts, iter(range(2))

    def disturbed(moment):
        parts = read_parts(moment)
        if next(disturbances, None) is not None:
            stored = Persona.objects.get(pk=persona.pk)
            stored.voice += "."
            stored.save()
        return parts

    monkeypatch.setattr(effective, "_read_parts", disturbed)
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
