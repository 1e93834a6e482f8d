"""Are secrets encrypted where they lie, kept while nobody changes them, and told by nobody?"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test import override_settings
from django.utils import timezone
from rest_framework.test import APIClient

from audit import encryption, key_checks, key_files, keys, rotation
from audit.encryption import Damaged, MissingKey
from audit.exchange import FORMAT, InvalidDocument, apply, dump, export_document
from audit.key_checks import check_keys, check_secrets
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR
from audit.rollback import RollbackRefused, Target, roll_back
from audit.verification import verify
from overrides.effective import load_configuration
from plugins.models import Plugin
from plugins.sealing import keep
from plugins.services import check_health, sync_plugins
from reviews.sessions import review
from rules.models import AnalysisRule
from tests.admin_client import address, read_form, sign_in, submit
from tests.factories import api_client, build_rule, make_override, make_rule, make_user
from tests.packages import Packages, packages  # noqa: F401, a fixture
from tests.remote_analyzer import CODE
from tests.rest import CONFIG, PLUGINS, RULES, expect_problem, last_change, revision

pytestmark = pytest.mark.django_db
REMOTE = f"{PLUGINS}/remote"
OVERRIDES = f"{CONFIG}/governance-overrides"
TOKEN = "tr0ub4dor-and-3"


@pytest.fixture(autouse=True)
def own_keys(tmp_path, settings):
    """The keys of other tests are none of ours."""
    settings.ENCRYPTION_KEYS = []
    settings.ENCRYPTION_KEY_FILE = tmp_path / "encryption.keys"


@pytest.fixture
def remote(packages: Packages) -> Plugin:  # noqa: F811
    """A plugin with a secret token."""
    packages.install("remote_package", CODE, remote="Remote")
    sync_plugins()
    plugin = Plugin.objects.get(name="remote")
    plugin.configuration = {"url": "https://x.example", "token": TOKEN}
    plugin.save()
    return plugin


@pytest.fixture
def manager():
    return api_client(make_user("administrator", username="manager"))


def stored() -> dict[str, Any]:
    return Plugin.objects.get(name="remote").configuration


def clear() -> dict[str, Any]:
    return Plugin.objects.get(name="remote").reveal_configuration()


def patch(client: Any, configuration: Any) -> Any:
    return client.patch(REMOTE, {"configuration": configuration})


# At rest


def test_a_secret_lies_encrypted_in_row_and_history(remote):
    assert encryption.is_envelope(stored()["token"])
    assert TOKEN not in json.dumps(list(Plugin.history.values_list("configuration", flat=True)))
    assert clear() == {"url": "https://x.example", "token": TOKEN}


def test_the_key_is_made_for_its_owner_alone(remote, settings):
    assert stat.S_IMODE(settings.ENCRYPTION_KEY_FILE.stat().st_mode) == 0o600


def test_processes_that_begin_together_agree_on_one_key(tmp_path):
    path = tmp_path / "made.keys"
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: key_files.read_or_make(path, keys.make_key), range(64)))
    assert found == {path.read_text()}
    assert os.listdir(tmp_path) == ["made.keys"]


def test_the_first_key_of_the_environment_encrypts_and_all_decrypt(remote, settings):
    first, second = settings.ENCRYPTION_KEY_FILE.read_text().strip(), Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [second, first]
    assert clear()["token"] == TOKEN
    assert encryption.key_id(encryption.seal("x")) == keys.load_keys()[0].id != encryption.key_id(stored()["token"])


def test_a_key_that_is_none_is_named_by_its_place_and_not_quoted(settings):
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode(), "no-key-at-all"]
    (error,) = check_keys(None)
    assert "Entry 2 of GOVERNANCE_ENCRYPTION_KEYS" in error.msg and "no-key-at-all" not in error.msg


def test_a_key_file_that_others_may_read_is_told(remote, settings):
    settings.ENCRYPTION_KEY_FILE.chmod(0o644)
    assert [warning.id for warning in check_keys(None)] == ["governance.W001"]


def test_a_mark_cannot_be_put_on_another_secret(remote):
    with pytest.raises(Damaged):
        encryption.unseal({**stored()["token"], "mark": "0" * 16})


@pytest.mark.parametrize("value", ["x", "", None, 7, 1.5, True, ["a", {"b": None}], {"deep": {"set": True}}, "ü" * 999])
def test_any_json_comes_out_as_it_went_in(value):
    envelope = encryption.seal(value)
    assert encryption.unseal(envelope) == value
    assert encryption.unseal(encryption.rewrap(envelope)) == value


# Write-only


@pytest.mark.parametrize("sent", [{"set": True}, None])
def test_a_secret_that_is_left_out_or_sent_as_shown_stays(remote, manager, sent):
    configuration = {"url": "https://y.example", **({"token": sent} if sent else {})}
    response = patch(manager, configuration)
    assert response.status_code == 200, response.content
    assert response.json()["configuration"] == {"url": "https://y.example", "token": {"set": True}}
    assert clear() == {"url": "https://y.example", "token": TOKEN}


def test_null_removes_a_secret(remote, manager):
    assert patch(manager, {"token": None}).json()["configuration"] == {}
    assert clear() == {}


def test_a_changed_secret_is_a_change_that_shows_nothing_of_it(remote, manager):
    before = revision()
    assert patch(manager, {"token": "another-one"}).status_code == 200
    row = last_change()
    assert row.revision == before + 1
    old, new = row.old_config["configuration"]["token"], row.new_config["configuration"]["token"]
    assert old["set"] is new["set"] is True and old["mark"] != new["mark"]
    assert clear()["token"] == "another-one"


def test_the_same_secret_sent_again_is_no_change(remote, manager):
    before, version = revision(), Plugin.objects.get(name="remote").version
    response = patch(manager, {"url": "https://x.example", "token": TOKEN})
    assert response.status_code == 200 and revision() == before
    assert response.json()["version"] == version


def test_the_same_secret_twice_cannot_be_told_from_two(remote, manager):
    patch(manager, {"token": TOKEN, "login": {"user": "ann", "password": TOKEN}})
    shown = last_change().new_config["configuration"]
    assert shown["token"]["mark"] != shown["login"]["password"]["mark"]


def test_a_secret_inside_an_object_that_is_left_out_stays(remote, manager):
    patch(manager, {"login": {"user": "ann", "password": "pw-1"}})
    assert patch(manager, {"login": {"user": "bob"}}).status_code == 200
    assert clear()["login"] == {"user": "bob", "password": "pw-1"}
    assert patch(manager, {}).status_code == 200
    assert clear()["login"] == {"password": "pw-1"}


def test_an_entry_of_a_list_keeps_its_secret_when_it_moves(remote, manager):
    patch(manager, {"hosts": [{"host": "a", "key": "key-a"}, {"host": "b", "key": "key-b"}]})
    shown = {"set": True}
    assert patch(manager, {"hosts": [{"host": "b", "key": shown}]}).status_code == 200
    assert clear()["hosts"] == [{"host": "b", "key": "key-b"}]


def test_an_entry_of_a_list_that_says_something_else_does_not_get_the_secret_of_another(remote, manager):
    patch(manager, {"hosts": [{"host": "a", "key": "key-a"}]})
    response = patch(manager, {"hosts": [{"host": "evil", "key": {"set": True}}]})
    expect_problem(response, 400, "invalid", "#/configuration/hosts/0/key")
    assert clear()["hosts"] == [{"host": "a", "key": "key-a"}]


def test_secrets_of_a_list_of_nothing_else_are_told_apart_by_place_alone():
    pointers, kept = ["/*"], [encryption.seal("a"), encryption.seal("b")]
    shown = {"set": True}
    assert keep([shown, shown], pointers, kept) == (kept, [])
    assert keep([shown], pointers, kept)[1] == ["/0"]


def test_the_ciphertext_of_something_else_is_refused(remote, manager):
    foreign = encryption.seal("of another object")
    expect_problem(patch(manager, {"token": foreign}), 400, "invalid", "#/configuration/token")
    expect_problem(patch(manager, {"url": foreign}), 400, "invalid", "#/configuration/url")
    assert clear()["token"] == TOKEN


@pytest.mark.parametrize(
    "configuration", [{"token": "zq7"}, {"token": "planted-77", "url": 7}, {"token": "planted-77", "colour": "red"}]
)
def test_a_refused_answer_does_not_repeat_a_secret(remote, manager, configuration):
    response = patch(manager, configuration)
    assert response.status_code == 400
    assert configuration["token"] not in response.content.decode()


def test_an_analyzer_that_quotes_a_secret_in_its_refusal_is_not_repeated(remote, manager):
    rule = {"name": "r", "rule_type": "security", "plugin": "remote", "configuration": {"word": "x"}}
    rule["configuration"]["password"] = "refuse-planted"
    response = manager.post(RULES, rule)
    problem = expect_problem(response, 400, "invalid", "#/configuration/password")
    assert "is refused" in problem["detail"] and "refuse-planted" not in response.content.decode()


def test_the_admin_form_has_an_empty_box_that_keeps_what_is_stored(remote):
    client, page = sign_in(make_user(superuser=True)), address("change", remote)
    html = client.get(page).content.decode()
    assert TOKEN not in html and "&quot;password&quot;" in html
    sent = json.dumps({"url": "https://z.example", "token": ""})
    assert submit(client, page, configuration=sent).status_code == 302
    assert clear() == {"url": "https://z.example", "token": TOKEN}
    assert submit(client, page, configuration=json.dumps({"token": "typed-anew"})).status_code == 302
    assert clear() == {"token": "typed-anew"}
    assert submit(client, page, configuration=json.dumps({"token": None})).status_code == 302
    assert "token" not in clear()


@pytest.mark.parametrize("written", ['{"token": "planted-55", "url": 7}', '{"token": "planted-55",'])
def test_a_refused_form_does_not_show_again_what_was_typed_as_a_secret(remote, written):
    client, page = sign_in(make_user(superuser=True)), address("change", remote)
    response = client.post(page, {**read_form(client, page), "configuration": written, "change_reason": "x"})
    assert response.status_code == 200
    assert "planted-55" not in response.content.decode()


# Rules and overrides


@pytest.fixture
def rule(remote) -> AnalysisRule:
    rule = build_rule(
        name="asks", plugin_id="remote", configuration={"word": "ask", "password": "pw-of-rule"}, examples={}
    )
    rule.save()
    return rule


def test_a_secret_of_a_rule_is_encrypted_and_masked(rule, manager):
    body = manager.get(f"{RULES}/{rule.pk}").json()
    assert body["configuration"] == {"word": "ask", "password": {"set": True}}
    assert manager.patch(f"{RULES}/{rule.pk}", {"configuration": {"word": "asks"}}).status_code == 200
    rule.refresh_from_db()
    assert encryption.reveal(rule.configuration) == {"word": "asks", "password": "pw-of-rule"}
    shown = [item for item in load_configuration().rules if item["name"] == "asks"]
    assert shown[0]["configuration"] == {"word": "asks", "password": {"set": True}}


def test_a_rule_that_changes_its_plugin_does_not_take_its_secret_along(rule, packages, manager):  # noqa: F811
    packages.install("other_package", CODE.replace('"remote"', '"other"'), other="Remote")
    sync_plugins()
    body = {"plugin": "other", "configuration": {"word": "ask", "password": {"set": True}}}
    expect_problem(manager.patch(f"{RULES}/{rule.pk}", body), 400, "invalid", "#/configuration/password")


def test_the_form_of_a_rule_shows_no_secret_and_keeps_it(rule):
    client, page = sign_in(make_user(superuser=True)), address("change", rule)
    html = client.get(page).content.decode()
    assert "pw-of-rule" not in html and "$encrypted" not in html
    assert submit(client, page, severity="low").status_code == 302
    rule.refresh_from_db()
    assert rule.severity == "low" and encryption.reveal(rule.configuration)["password"] == "pw-of-rule"


def test_an_override_brings_its_own_secret(rule, tmp_path):
    override = make_override(
        "asks",
        override_config={"configuration": {"password": "pw-of-override"}},
        status="active",
        enabled=True,
        approved_by="somebody",
    )
    override.refresh_from_db()
    assert "pw-of-override" not in json.dumps(override.override_config)
    assert override.shown()["override_config"] == {"configuration": {"password": {"set": True}}}
    assert load_configuration().rules[-1]["configuration"] == {"password": {"set": True}, "word": "ask"}
    assert digest_of("pw-of-override") in run_review(tmp_path).issues[0].finding.message


def ask(client: Any, configuration: Any) -> Any:
    wanted = {"rule_name": "asks", "override_config": {"configuration": configuration}, "reason": "Until it is moved."}
    return client.post(OVERRIDES, {**wanted, "expires_at": (timezone.now() + timedelta(days=3)).isoformat()})


def test_an_analyzer_that_quotes_a_secret_in_refusing_an_override_is_not_repeated(remote, rule):
    client = api_client(make_user("rule editor"))
    pointer = "#/override_config/configuration/password"
    problem = expect_problem(ask(client, {"password": "refuse-planted"}), 400, "invalid", pointer)
    assert problem["detail"] == "The password *** is refused."
    # So is the stored one, which whoever asks for an override must not learn.
    sealed = encryption.seal("refuse-stored")
    models.QuerySet(AnalysisRule).filter(pk=rule.pk).update(configuration={"word": "ask", "password": sealed})
    problem = expect_problem(ask(client, {"word": "other"}), 400, "invalid", pointer)
    assert problem["detail"] == "The password *** is refused."


def test_a_secret_that_moved_on_both_sides_is_a_conflict_that_shows_nothing_of_it(rule, manager):
    asked = ask(api_client(make_user("rule editor")), {"password": "pw-of-override"}).json()
    assert (
        manager.patch(f"{RULES}/{rule.pk}", {"configuration": {"password": "pw-anew", "word": "ask"}}).status_code
        == 200
    )
    response = api_client(make_user("override approver")).post(f"{OVERRIDES}/{asked['id']}/approve", {})
    shown = {"set": True}
    told = {"field": "configuration.password", "original": shown, "override": shown, "current": shown}
    assert expect_problem(response, 409, "conflict")["conflicts"] == [told]
    assert "mark" not in response.content.decode()


def test_an_override_limited_to_paths_brings_its_own_secret_there_alone(rule, tmp_path):
    for number, paths in enumerate((["old/"], ["older/"])):
        make_override(
            "asks",
            override_config={"configuration": {"password": f"pw-of-override-{number}"}},
            paths=paths,
            status="active",
            enabled=True,
            approved_by="somebody",
        )
    for folder in ("old", "older"):
        (tmp_path / "code" / folder).mkdir(parents=True)
        (tmp_path / "code" / folder / "a.py").write_text("ask()\n")
    found = {issue.finding.path: issue.finding for issue in run_review(tmp_path).issues}
    assert {finding.rule for finding in found.values()} == {"asks"}
    assert digest_of("pw-of-override-0") in found["old/a.py"].message
    assert digest_of("pw-of-override-1") in found["older/a.py"].message
    assert digest_of("pw-of-override") not in found["a.py"].message


# Where it is needed


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_review(folder: Path) -> Any:
    code = folder / "code"
    code.mkdir(exist_ok=True)
    (code / "a.py").write_text("ask()\n")
    return review(code, started_by="ann", jobs=0)


def test_an_analyzer_gets_its_secrets_in_clear(rule, tmp_path):
    done = run_review(tmp_path)
    (finding,) = done.result.findings
    assert digest_of(TOKEN) in finding.message and digest_of("pw-of-rule") in finding.message


def test_what_an_analyzer_says_of_its_secrets_is_not_stored(rule, tmp_path):
    remote = Plugin.objects.get(name="remote")
    remote.configuration = {"token": TOKEN, "mood": "chatty"}
    remote.save()
    session = run_review(tmp_path).session
    told = json.dumps(list(session.issues.values("message", "snippet", "context")), default=str)
    assert "***" in told and TOKEN not in told and "pw-of-rule" not in told
    remote.configuration = {"token": TOKEN, "mood": "broken"}
    remote.save()
    session = run_review(tmp_path).session
    assert "cannot sign in with ***" in json.dumps(session.failures)


# The key is lost


def lose(settings: Any) -> None:
    settings.ENCRYPTION_KEY_FILE.unlink()


def test_a_lost_key_is_told_apart_from_damage(remote, settings):
    envelope = stored()["token"]
    with pytest.raises(Damaged):
        encryption.unseal({**envelope, "$encrypted": envelope["$encrypted"][:-8] + "AAAAAAAA"})
    lose(settings)
    with pytest.raises(MissingKey, match="bring it back"):
        encryption.unseal(envelope)


def test_without_the_key_all_else_works(rule, manager, settings, tmp_path):
    make_rule(name="evaluates")
    lose(settings)
    assert manager.get(PLUGINS).status_code == manager.get(REMOTE).status_code == 200
    assert (
        sign_in(make_user(superuser=True)).get(address("change", Plugin.objects.get(name="remote"))).status_code == 200
    )
    code = tmp_path / "code"
    code.mkdir()
    (code / "b.py").write_text("eval(x)\n")
    done = run_review(tmp_path)
    assert [finding.rule for finding in done.result.findings] == ["evaluates"]
    (failure,) = done.session.failures
    assert failure["plugin"] == "remote" and "secret setting token cannot be used" in failure["message"]
    health = check_health(Plugin.objects.get(name="remote"))
    assert health.status == "failing" and "token" in health.detail
    assert [warning.id for warning in check_secrets(None, databases=["default"])] == ["governance.W002"] * 2
    assert "configuration/token" in check_secrets(None, databases=["default"])[0].msg
    assert dump(export_document(SYSTEM_ACTOR))
    report = verify()
    assert report.intact and report.unread


def test_without_the_key_other_settings_change_and_the_secret_can_be_set_anew(remote, manager, settings):
    before = stored()["token"]
    lose(settings)
    assert patch(manager, {"url": "https://y.example"}).status_code == 200
    assert stored() == {"url": "https://y.example", "token": before}
    assert manager.post(f"{REMOTE}/toggle", {"enabled": False}).status_code == 200
    assert patch(manager, {"token": "set-anew"}).status_code == 200
    assert clear() == {"token": "set-anew"}


def test_a_rule_without_its_secret_is_a_failure_of_its_plugin(rule, settings, tmp_path):
    remote = Plugin.objects.get(name="remote")
    remote.configuration = {"token": None}
    remote.save()
    lose(settings)
    (failure,) = run_review(tmp_path).session.failures
    assert failure["rule"] == "asks" and "secret password" in failure["message"]


# Back to what was


def test_a_rollback_brings_a_secret_back(remote, manager):
    reached = revision()
    patch(manager, {"token": "another-one"})
    plan = roll_back(Target(to_revision=reached), user=SYSTEM_ACTOR, dry_run=True)
    assert [list(step.fields) for step in plan.steps] == [["configuration"]]
    assert TOKEN not in json.dumps(plan.document()) and "another-one" not in json.dumps(plan.document())
    roll_back(Target(to_revision=reached), user=SYSTEM_ACTOR)
    assert clear()["token"] == TOKEN
    assert verify().intact


def test_a_rollback_brings_back_a_deleted_rule_with_its_secret(rule):
    reached = revision()
    rule.delete()
    roll_back(Target(to_revision=reached), user=SYSTEM_ACTOR)
    assert encryption.reveal(AnalysisRule.objects.get(name="asks").configuration)["password"] == "pw-of-rule"


def test_a_rollback_without_the_key_names_object_and_field(remote, manager, settings):
    reached = revision()
    patch(manager, {"token": "another-one"})
    lose(settings)
    with pytest.raises(RollbackRefused, match="remote/configuration/token: The key .* bring it back"):
        roll_back(Target(to_revision=reached), user=SYSTEM_ACTOR)


# Documents


def document(configuration: dict[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "plugins": [{"name": "remote", "configuration": configuration}]}


def test_an_export_keeps_the_secret_when_it_is_imported_again(remote):
    exported = export_document(SYSTEM_ACTOR)
    assert document({"url": "https://x.example", "token": {"set": True}})["plugins"][0]["configuration"] in [
        entry["configuration"] for entry in exported["plugins"]
    ]
    assert {step.status for step in apply(exported, user=SYSTEM_ACTOR).steps} == {"unchanged"}
    assert clear()["token"] == TOKEN


def test_a_document_that_does_not_mention_a_secret_does_not_wipe_it(remote):
    plan = apply(document({"url": "https://x.example"}), user=SYSTEM_ACTOR)
    assert [step.status for step in plan.steps] == ["unchanged"]
    apply(document({"url": "https://y.example"}), user=SYSTEM_ACTOR)
    assert clear() == {"url": "https://y.example", "token": TOKEN}


def test_a_secret_in_a_document_is_stored_encrypted_and_not_told_by_the_plan(remote):
    plan = apply(document({"token": "from-a-document"}), user=SYSTEM_ACTOR, dry_run=True)
    assert "from-a-document" not in str(plan) and TOKEN not in str(plan)
    apply(document({"token": "from-a-document"}), user=SYSTEM_ACTOR)
    assert clear()["token"] == "from-a-document"


def test_a_document_marks_a_secret_that_is_not_there(remote):
    with pytest.raises(InvalidDocument) as refused:
        apply(document({"login": {"password": {"set": True}}}), user=SYSTEM_ACTOR)
    assert [problem.pointer for problem in refused.value.problems] == ["/plugins/0/configuration/login/password"]


# Rotation


def rotate(*arguments: str) -> tuple[str, int]:
    out = StringIO()
    try:
        call_command("rotate_keys", *arguments, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(ended.code)
    return out.getvalue(), 0


def key_ids() -> set[str]:
    """The keys that encrypt anything, in rows and history."""
    found = [*Plugin.objects.values_list("configuration", flat=True)]
    found += [*Plugin.history.values_list("configuration", flat=True)]
    found += [*AnalysisRule.objects.values_list("configuration", flat=True)]
    found += [*AnalysisRule.history.values_list("configuration", flat=True)]
    return {encryption.key_id(envelope) for item in found for _, envelope in encryption.find_envelopes(item)}


def test_a_rotation_rewrites_rows_and_history_and_the_record_stays_true(rule, manager, capsys):
    patch(manager, {"token": "another-one"})
    reached, tag = revision(), manager.get(REMOTE)["ETag"]
    before, journal = key_ids(), list(ConfigurationAuditLog.objects.values())
    told = Plugin.objects.get(name="remote")
    assert rotate("--new-key") == ("", 0)
    assert "rows with secrets were rewritten" in capsys.readouterr().err
    assert len(key_ids()) == 1 and key_ids() != before
    assert verify().breaks == [] and verify().unread == 0
    assert list(ConfigurationAuditLog.objects.values()) == journal
    assert (revision(), manager.get(REMOTE)["ETag"]) == (reached, tag)
    assert clear()["token"] == "another-one"
    told.save()  # read before the rotation
    assert revision() == reached
    row = ConfigurationAuditLog.objects.filter(entity_id="remote").order_by("-revision")[1]
    roll_back(Target(to_revision=row.revision), user=SYSTEM_ACTOR)
    assert clear()["token"] == TOKEN
    assert verify().intact


def test_a_rotation_that_was_broken_off_goes_on_and_a_second_one_does_nothing(rule, monkeypatch, settings, capsys):
    keys.add_key()
    monkeypatch.setattr("audit.rotation.BATCH", 1)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotation.rotate(progress=stop)
    assert len(key_ids()) == 2
    assert rotate("--plan")[1] == 0
    assert len(key_ids()) == 2
    assert rotate()[1] == 0 and len(key_ids()) == 1
    again = rotation.rotate()
    assert again.rows > 2 and again.rewritten == 0


def test_a_rotation_names_what_it_cannot_decrypt_and_does_the_rest(rule, settings):
    lost = settings.ENCRYPTION_KEY_FILE.read_text().strip()
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    remote = Plugin.objects.get(name="remote")
    remote.configuration = {"token": "under-the-new-key"}
    remote.save()
    out, code = rotate()
    assert code == 1
    assert "analysis rule asks, configuration/password: The key" in out and "under-the-new-key" not in out
    settings.ENCRYPTION_KEYS = [*settings.ENCRYPTION_KEYS, lost]
    assert rotate() == ("", 0)
    assert len(key_ids()) == 1


def test_readiness_tells_of_secrets_without_their_key_as_a_number(remote, settings, monkeypatch):
    monkeypatch.setattr(key_checks, "_looked", None)
    assert APIClient().get("/readyz").json()["degraded"] == []
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    body = APIClient().get("/readyz").json()
    (part,) = body["degraded"]
    assert (body["status"], part["name"]) == ("degraded", "secrets")
    assert part["detail"].startswith("Secrets that cannot be decrypted: 1.")
    assert TOKEN not in str(body) and settings.ENCRYPTION_KEYS[0] not in str(body)


def test_a_new_key_is_not_made_where_keys_come_from_the_environment(settings):
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(CommandError, match="put the new one first there") as refused:
        call_command("rotate_keys", "--new-key")
    assert refused.value.returncode == 2


def test_only_a_superuser_rotates_keys():
    make_user("administrator", username="boss")
    with pytest.raises(CommandError, match="Only a superuser"):
        call_command("rotate_keys", acting_user="boss")


# Tampering


def overwrite(model: Any, key: Any, configuration: Any) -> None:
    models.QuerySet(model).filter(pk=key).update(configuration=configuration)


def test_a_ciphertext_that_was_altered_is_told(remote):
    envelope = stored()["token"]
    spoilt = {**stored(), "token": {**envelope, "$encrypted": envelope["$encrypted"][:-8] + "AAAAAAAA"}}
    history = Plugin.history.filter(name="remote").first()
    overwrite(Plugin, remote.pk, spoilt)
    overwrite(Plugin.history.model, history.pk, spoilt)
    found = [item.problem for item in verify().breaks]
    assert len(found) == 2 and all("secret at configuration/token" in problem for problem in found)


def test_an_older_secret_put_in_place_of_the_newer_is_told(remote, manager):
    old = stored()
    patch(manager, {"token": "another-one"})
    overwrite(Plugin, remote.pk, old)
    assert any("changed past the journal" in item.problem for item in verify().breaks)


def test_the_record_holds_where_no_key_can_read_what_is_stored(remote, settings):
    envelope = stored()["token"]
    assert TOKEN not in json.dumps(envelope)
    with override_settings(ENCRYPTION_KEYS=[Fernet.generate_key().decode()]), connection.cursor() as cursor:
        cursor.execute("SELECT configuration FROM plugins WHERE name = 'remote'")
        assert TOKEN not in str(cursor.fetchone())
        assert verify().intact
