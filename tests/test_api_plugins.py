"""Plugins over HTTP: settings by schema, secrets unseen, the switch with its dependencies."""

import json

import pytest

from audit.encryption import hide
from audit.models import ConfigurationAuditLog
from audit.permissions import grant
from plugins import registry, services
from plugins.analyzers.patterns import Patterns
from plugins.models import Plugin
from tests.factories import api_client, make_plugins, make_user
from tests.rest import PLUGINS, expect_problem, last_change, names, revision

pytestmark = pytest.mark.django_db


class Caller(Patterns):
    """An analyzer with secrets that needs another one."""

    name = "caller"
    title = "Caller"
    requires = ("patterns",)
    configuration_schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "url": {"type": "string"},
            "token": {"type": "string", "secret": True, "minLength": 3},
            "hosts": {
                "type": "array",
                "items": {"type": "object", "properties": {"key": {"type": "string", "secret": True}}},
            },
        },
    }


@pytest.fixture
def caller(monkeypatch):
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, Caller))
    registry.refresh()
    yield Caller
    monkeypatch.undo()
    registry.refresh()


@pytest.fixture
def manager():
    make_plugins()
    return api_client(make_user("plugin manager", username="manager"))


def test_a_plugin_tells_what_it_is_how_it_is_set_and_how_it_is(manager):
    services.check_health(Plugin.objects.get(name="patterns"))
    assert "patterns" in names(manager.get(PLUGINS))
    response = manager.get(f"{PLUGINS}/patterns")
    body = response.json()
    assert body["name"] == "patterns" and body["title"] and body["description"]
    assert body["enabled"] is True
    assert body["installed_version"] == Patterns.version
    assert body["configuration_schema"] == dict(Patterns.configuration_schema)
    assert body["rule_schema"] == dict(Patterns.rule_schema)
    assert body["requires"] == [] and body["required_by"] == ["secrets"]
    assert body["health"]["status"] == "healthy" and body["health"]["checked_at"]
    assert response["ETag"] == f'"{body["version"]}"'


def test_a_plugin_that_was_not_looked_at_says_so(manager):
    assert manager.get(f"{PLUGINS}/patterns").json()["health"] == {
        "status": "unknown",
        "checked_at": None,
        "detail": "Not looked at yet.",
        "executables": [],
        "last_run_at": None,
        "last_run": None,
        "runs": 0,
        "failed_runs": 0,
        "p95_seconds": None,
        "failure": "",
    }


def test_plugins_are_neither_created_nor_deleted(manager):
    for response in (
        manager.post(PLUGINS, {"name": "x"}),
        manager.delete(f"{PLUGINS}/patterns"),
        manager.put(f"{PLUGINS}/patterns?colour=1", {}),
    ):
        expect_problem(response, 405, "method-not-allowed")
        assert "GET" in response["Allow"]


def test_settings_are_checked_by_the_schema(manager):
    body = expect_problem(
        manager.patch(f"{PLUGINS}/patterns", {"configuration": {"colour": "red"}}),
        *(400, "invalid", "#/configuration/colour"),
    )
    assert body["errors"][0]["detail"]
    expect_problem(manager.patch(f"{PLUGINS}/patterns", {"configuration": []}), 400, "invalid", "#/configuration")


def test_a_secret_is_stored_and_never_shown(caller, manager):
    secret = "tr0ub4dor"
    configuration = {"url": "https://x", "token": secret, "hosts": [{"key": "first-" + secret}, {}]}
    response = manager.patch(f"{PLUGINS}/caller", {"configuration": configuration, "change_reason": "moved"})
    assert response.status_code == 200, response.content
    shown = {"url": "https://x", "token": {"set": True}, "hosts": [{"key": {"set": True}}, {}]}
    assert response.json()["configuration"] == shown
    assert Plugin.objects.get(name="caller").reveal_configuration() == configuration
    assert hide(last_change().new_config["configuration"]) == shown
    administrator = api_client(make_user("administrator"))
    for address in (f"{PLUGINS}/caller", PLUGINS, "/api/v1/config/configuration", "/api/v1/config/export"):
        answer = administrator.get(address)
        assert answer.status_code == 200
        assert secret not in answer.content.decode()
    assert secret not in json.dumps(list(ConfigurationAuditLog.objects.values("old_config", "new_config")))


def test_a_secret_that_comes_back_as_it_was_shown_stays(caller, manager):
    stored = {"token": "tr0ub4dor", "hosts": [{"key": "k1"}]}
    manager.patch(f"{PLUGINS}/caller", {"configuration": stored})
    before = revision()
    body = manager.get(f"{PLUGINS}/caller").json()
    assert manager.patch(f"{PLUGINS}/caller", body).status_code == 200
    assert revision() == before
    body["configuration"]["url"] = "https://y"
    assert manager.patch(f"{PLUGINS}/caller", body).status_code == 200
    assert Plugin.objects.get(name="caller").reveal_configuration() == {**stored, "url": "https://y"}


def test_a_secret_that_was_never_set_cannot_stay(caller, manager):
    response = manager.patch(f"{PLUGINS}/caller", {"configuration": {"token": {"set": True}}})
    expect_problem(response, 400, "invalid", "#/configuration/token")


def test_a_refused_secret_is_not_repeated_in_the_problem(caller, manager):
    response = manager.patch(f"{PLUGINS}/caller", {"configuration": {"token": "zq"}})
    expect_problem(response, 400, "invalid", "#/configuration/token")
    assert "zq" not in response.content.decode()


def test_settings_of_a_plugin_whose_package_is_gone_are_all_masked(caller, manager):
    manager.patch(f"{PLUGINS}/caller", {"configuration": {"url": "https://x", "token": "tr0ub4dor"}})
    registry.BUILT_IN = registry.BUILT_IN[:-1]
    registry.refresh()
    body = manager.get(f"{PLUGINS}/caller").json()
    assert body["installed_version"] is None
    assert body["configuration"] == {"url": {"set": True}, "token": {"set": True}}


@pytest.mark.parametrize("where", ["body", "query"])
def test_a_plugin_is_switched_from_body_or_query(manager, where):
    if where == "body":
        response = manager.post(f"{PLUGINS}/secrets/toggle", {"enabled": False, "change_reason": "noisy"})
    else:
        response = manager.post(f"{PLUGINS}/secrets/toggle?enabled=false", headers={"X-Change-Reason": "noisy"})
    assert response.status_code == 200, response.content
    assert response.json()["enabled"] is False
    row = last_change()
    assert (row.change_type, row.change_reason) == ("plugin_toggled", "noisy")
    assert response["X-Revision"] == str(row.revision)
    assert response["ETag"] == f'"{row.revision}"'


@pytest.mark.parametrize(
    ("query", "body"), [("", {}), ("?enabled=1", {}), ("", {"enabled": "false"}), ("?enabled=true", {"enabled": False})]
)
def test_a_switch_needs_one_clear_word(manager, query, body):
    expect_problem(manager.post(f"{PLUGINS}/secrets/toggle{query}", body), 400, "invalid", "#/enabled")


def test_a_switch_that_is_so_already_leaves_no_revision(manager):
    before = revision()
    response = manager.post(f"{PLUGINS}/secrets/toggle", {"enabled": True})
    assert response.status_code == 200
    assert revision() == before


def test_a_switch_that_breaks_a_dependency_is_a_conflict_that_names_it(caller, manager):
    body = manager.get(f"{PLUGINS}/patterns").json()
    assert body["required_by"] == ["caller", "secrets"]
    assert manager.get(f"{PLUGINS}/caller").json()["requires"] == ["patterns"]
    manager.post(f"{PLUGINS}/secrets/toggle", {"enabled": False})
    for response in (
        manager.post(f"{PLUGINS}/patterns/toggle", {"enabled": False}),
        manager.patch(f"{PLUGINS}/patterns", {"enabled": False}),
    ):
        problem = expect_problem(response, 409, "conflict")
        assert "caller" in problem["detail"]
    assert Plugin.objects.get(name="patterns").enabled
    assert manager.post(f"{PLUGINS}/caller/toggle", {"enabled": False}).status_code == 200
    assert manager.post(f"{PLUGINS}/patterns/toggle", {"enabled": False}).status_code == 200
    problem = expect_problem(manager.post(f"{PLUGINS}/caller/toggle", {"enabled": True}), 409, "conflict")
    assert "patterns" in problem["detail"]


def test_a_switch_honours_if_match(manager):
    version = Plugin.objects.get(name="secrets").version
    response = manager.post(f"{PLUGINS}/secrets/toggle", {"enabled": False}, headers={"If-Match": f'"{version + 1}"'})
    expect_problem(response, 412, "stale")
    assert response["ETag"] == f'"{version}"'


def test_the_switch_and_the_settings_are_rights_of_their_own():
    make_plugins()
    plugin = Plugin.objects.get(name="secrets")
    setter, switcher = make_user("viewer"), make_user("viewer")
    grant(action="change", holder=setter, target=plugin)
    grant(action="toggle", holder=switcher, target=plugin)
    setter, switcher = api_client(setter), api_client(switcher)
    expect_problem(setter.post(f"{PLUGINS}/secrets/toggle", {"enabled": False}), 403, "forbidden")
    expect_problem(setter.patch(f"{PLUGINS}/secrets", {"enabled": False}), 403, "forbidden")
    both = {"enabled": False, "configuration": {**plugin.configuration, "colour": 1}}
    expect_problem(setter.patch(f"{PLUGINS}/secrets", both), 403, "forbidden")
    expect_problem(switcher.patch(f"{PLUGINS}/secrets", both), 403, "forbidden")
    assert switcher.patch(f"{PLUGINS}/secrets", {"enabled": False}).status_code == 200
    assert switcher.get(f"{PLUGINS}/secrets?permissions=true").json()["permissions"] == ["view", "toggle"]


def test_a_viewer_switches_nothing():
    make_plugins()
    viewer = api_client(make_user("viewer"))
    expect_problem(viewer.post(f"{PLUGINS}/secrets/toggle", {"enabled": False}), 403, "forbidden")
    expect_problem(viewer.patch(f"{PLUGINS}/secrets", {"enabled": False}), 403, "forbidden")


def test_an_unknown_plugin_is_not_found(manager):
    expect_problem(manager.get(f"{PLUGINS}/magic"), 404, "not-found")
    expect_problem(manager.post(f"{PLUGINS}/magic/toggle", {"enabled": False}), 404, "not-found")
