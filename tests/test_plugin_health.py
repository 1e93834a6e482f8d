"""How plugins are: looked at on demand, judged by their runs, shown by API, admin and command."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.changes import change_set
from audit.journal import current_revision
from audit.permissions import grant
from plugins import isolation, services
from plugins.management.commands import check_plugins
from plugins.models import Plugin, PluginHealth, PluginRun
from plugins.services import check_all, check_health, find_percentile, note_runs, toggle
from tests.admin_client import address, sign_in, text
from tests.factories import api_client, make_plugins, make_user
from tests.packages import Packages, install_program, packages, programs  # noqa: F401, fixtures
from tests.rest import PLUGINS, expect_problem

pytestmark = pytest.mark.django_db


@dataclass
class Run:
    """How a plugin did in one review."""

    seconds: float = 0.5
    files: int = 10
    findings: int = 3
    failures: int = 0
    detail: str = ""


BROKEN = Run(findings=0, failures=10, detail="ZeroDivisionError: oops")
LAME = Run(findings=3, failures=1, detail="ZeroDivisionError: oops")


def health(name: str = "patterns") -> PluginHealth:
    return PluginHealth.objects.get(plugin__name=name)


def look(name: str) -> PluginHealth:
    return check_health(Plugin.objects.get(name=name))


# ---- looked at


SHY = """
import os
from plugins.contract import Executable, RuleError

class Shy(Patterns):
    name = "shy"
    configuration_schema = {
        "type": "object",
        "properties": {"mood": {"type": "string"}, "token": {"type": "string", "secret": True}},
    }
    def __init__(self):
        pass
    def prepare(self, rules, configuration):
        mood = configuration.get("mood")
        if mood == "hang":
            import time
            time.sleep(600)
        if mood == "crash":
            os.abort()
        if mood == "oops":
            raise ValueError(f"cannot use {configuration}")
        if mood == "no":
            raise RuleError(f"The token {configuration['token']} is refused.")

class Tool(Shy):
    name = "tool"
    executables = (Executable("frobnicate", "pip install frobnicate", "1.5"),)
"""


@pytest.fixture
def shy(packages: Packages) -> Packages:  # noqa: F811
    packages.install("shy_package", SHY, shy="Shy", tool="Tool")
    make_plugins()
    return packages


def configure(name: str, **configuration: object) -> None:
    plugin = Plugin.objects.get(name=name)
    plugin.configuration = configuration
    plugin.save()


@pytest.mark.parametrize(
    ("mood", "status", "told"),
    [
        ("good", "healthy", "Version 1.0.0 loads and accepts its settings."),
        ("oops", "failing", "Version 1.0.0 failed: ValueError: cannot use {'mood': 'oops', 'token': '***'}."),
        ("no", "failing", "It refuses its settings: The token *** is refused."),
        ("crash", "failing", "Version 1.0.0 was ended by SIGABRT."),
        ("hang", "failing", "Version 1.0.0 did not answer within 2 seconds."),
    ],
)
def test_health_says_how_the_analyzer_takes_its_settings(shy, monkeypatch, mood, status, told):
    monkeypatch.setattr(isolation, "SECONDS", 2.0)
    configure("shy", mood=mood, token="tr0ub4dor")
    seen = look("shy")
    assert (seen.status, seen.detail) == (status, told)


def test_settings_that_a_new_version_does_not_take_are_told(shy):
    configure("shy", mood="good")
    shy.install("shy_package", SHY.replace('"mood": {"type": "string"}', '"mood": {"type": "integer"}'), shy="Shy")
    seen = look("shy")
    assert seen.status == "failing"
    assert seen.detail.startswith("Its settings do not fit its schema: mood: ")


def test_plugin_whose_package_is_gone_is_missing(shy):
    shy.remove("shy_package")
    assert (look("shy").status, look("shy").detail) == (
        "missing",
        "The package that provides this analyzer is not installed.",
    )


def test_plugin_whose_package_is_broken_is_missing_with_the_reason(shy):
    shy.install("shy_package", "raise ImportError('no libfoo')", shy="Shy")
    seen = look("shy")
    assert (seen.status, seen.detail) == ("missing", "Its analyzer cannot be loaded: ImportError: no libfoo.")


def test_enabled_plugin_whose_needs_have_changed_fails_and_says_what_to_do(shy):
    shy.install("shy_package", SHY.replace('name = "shy"', 'name = "shy"; requires = ("patterns>=99",)'), shy="Shy")
    assert look("shy").status == "failing"
    assert "shy requires patterns >=99, but version 1.0.0 is installed" in look("shy").detail
    toggle(name="shy", enabled=False)
    assert look("shy").status == "healthy"


def test_program_of_a_tool_is_shown_and_its_loss_told(shy, programs: Path):  # noqa: F811
    seen = look("tool")
    told = "The program frobnicate was not found; install it with: pip install frobnicate."
    assert (seen.status, seen.detail) == ("missing", told)
    program = install_program(programs, "frobnicate", "1.10")
    toggle(name="tool", enabled=True)
    assert look("tool").status == "healthy"
    shown = api_client(make_user("viewer")).get(f"{PLUGINS}/tool").json()["health"]["executables"]
    assert shown == [
        {
            "name": "frobnicate",
            "minimum": "1.5",
            "install": "pip install frobnicate",
            "path": str(program),
            "version": "1.10",
            "problem": "",
        }
    ]
    program.unlink()
    assert look("tool").status == "missing"
    assert Plugin.objects.get(name="tool").enabled is True
    note_runs({"tool": Run(files=0, findings=0, failures=1, detail="frobnicate was not found")})
    assert (health("tool").status, health("tool").detail) == ("missing", told)


def test_several_are_looked_at_in_their_order(shy):
    configure("shy", mood="crash")
    plugins = list(Plugin.objects.order_by("-name"))
    seen = check_all(plugins)
    assert [each.plugin.name for each in seen] == [plugin.name for plugin in plugins]
    assert {each.plugin.name: each.status for each in seen}["shy"] == "failing"


# ---- judged by runs


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (Run(), "healthy"),
        (Run(files=0, findings=0), "healthy"),
        (LAME, "degraded"),
        (BROKEN, "failing"),
        (Run(files=2, findings=0, failures=1), "degraded"),
        (Run(files=1, findings=4, failures=7), "degraded"),
        (Run(files=0, findings=0, failures=1), "failing"),
    ],
)
def test_health_follows_the_last_run(run, status):
    make_plugins()
    note_runs({"patterns": run, "unheard-of": run})
    assert health().status == status
    assert health().last_run == {name: getattr(run, name) for name in ("seconds", "files", "findings", "failures")}
    assert health().checked_at == health().last_run_at == PluginRun.objects.get().ran_at
    assert not PluginHealth.objects.filter(plugin__name="secrets").exists()


def test_figures_tell_of_the_last_hundred_runs_and_two_hundred_are_kept():
    plugin = make_plugins()
    PluginRun.objects.bulk_create(PluginRun(plugin=plugin, seconds=100, failures=1) for _ in range(150))
    PluginRun.objects.bulk_create(PluginRun(plugin=plugin, seconds=number) for number in range(1, 98))
    note_runs({"patterns": LAME})
    note_runs({"patterns": Run()})
    note_runs({"patterns": Run()})
    seen = health()
    assert PluginRun.objects.count() == 200
    assert (seen.runs, seen.failed_runs, seen.failure) == (100, 1, "ZeroDivisionError: oops")
    assert seen.p95_seconds == 92
    assert seen.status == "healthy"


def test_ninety_fifth_percentile_is_one_of_the_numbers():
    assert find_percentile(range(1, 101), 95) == 95
    assert find_percentile([3, 1, 2], 95) == 3
    assert find_percentile([1], 95) == 1


def test_runs_are_noted_in_as_many_statements_for_many_plugins_as_for_one():
    make_plugins()
    counts = []
    for names in (["patterns"], ["patterns", "secrets"]):
        note_runs(dict.fromkeys(names, Run()))
        with CaptureQueriesContext(connection) as captured:
            note_runs(dict.fromkeys(names, Run()))
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 6
    note_runs({})


def test_secret_settings_are_not_kept_in_a_failure(shy):
    configure("shy", token="tr0ub4dor")
    note_runs({"shy": Run(failures=1, detail="POST https://x?token=tr0ub4dor failed" + "!" * 1000)})
    assert health("shy").failure.startswith("POST https://x?token=*** failed!")
    assert len(health("shy").failure) == services.MAX_DETAIL


def test_failed_run_is_remembered_by_a_check_until_the_plugin_is_changed(shy):
    configure("shy", mood="good")
    note_runs({"shy": BROKEN})
    seen = look("shy")
    assert seen.status == "failing"
    assert seen.detail.endswith("In the last run, over 10 files, 10 failed: ZeroDivisionError: oops")
    configure("shy", mood="better")
    assert look("shy").status == "healthy"
    note_runs({"shy": Run()})
    assert look("shy").detail == "Version 1.0.0 loads and accepts its settings."


# ---- shown


def test_api_checks_and_tells(shy):
    configure("shy", mood="crash")
    note_runs({"shy": Run(seconds=1.5), "patterns": Run()})
    user = make_user("viewer")
    client = api_client(user)
    expect_problem(client.post(f"{PLUGINS}/shy/check"), 403, "forbidden")
    grant(action="change", holder=user, target=Plugin.objects.get(name="shy"))
    before = current_revision()
    response = client.post(f"{PLUGINS}/shy/check")
    assert response.status_code == 200, response.content
    assert "X-Revision" not in response and current_revision() == before
    shown = response.json()["health"]
    assert shown["status"] == "failing"
    assert shown["last_run"] == {"seconds": 1.5, "files": 10, "findings": 3, "failures": 0}
    assert (shown["runs"], shown["failed_runs"], shown["p95_seconds"]) == (1, 0, 1.5)
    assert shown == client.get(f"{PLUGINS}/shy").json()["health"]
    expect_problem(client.post(f"{PLUGINS}/patterns/check"), 403, "forbidden")
    expect_problem(client.post(f"{PLUGINS}/shy/check?enabled=true"), 400, "invalid", "#/enabled")
    expect_problem(client.post(f"{PLUGINS}/magic/check"), 404, "not-found")


def test_admin_shows_programs_runs_and_failures(shy):
    for _ in range(3):
        note_runs({"tool": Run()})
    note_runs({"tool": Run(failures=1, detail="<b>oops</b>")})
    browser = sign_in(make_user("viewer"))
    page = browser.get(address("change", Plugin.objects.get(name="tool")))
    shown = text(page)
    assert "the program frobnicate was not found; install it with: pip install frobnicate" in shown
    assert "<b>oops</b>" in shown and "1 of 4" in shown and "0.50 s" in shown
    content = page.content.decode()
    chart = content[content.index('<svg class="runs"') :].partition("</svg>")[0]
    assert chart.count("<rect") == 4 and chart.count('"run-failed"') == 1
    assert "style=" not in chart and "<script" not in chart
    shown = text(browser.get(address("changelist", Plugin)))
    assert "degraded" in shown and "1 of 4" in shown
    assert "It has not run yet." in text(browser.get(address("change", Plugin.objects.get(name="patterns"))))


def test_overview_names_the_enabled_plugins_that_are_not_well(shy):
    note_runs({"shy": LAME, "patterns": Run()})
    look("tool")
    page = sign_in(make_user("administrator")).get("/admin/")
    assert [(plugin.name, status) for plugin, status in page.context["plugins"]["unwell"]] == [("shy", "degraded")]
    assert "tool" in [plugin.name for plugin in page.context["plugins"]["off"]]


def run_command(*arguments: str, **options: object) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("check_plugins", *arguments, stdout=out, **options)
    except SystemExit as error:
        return error.code, out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def test_command_exits_0_when_all_that_is_enabled_is_healthy(shy):
    code, said = run_command()
    assert code == 0
    assert "patterns: enabled, healthy: Version 1.0.0 loads and accepts its settings.\n" in said
    assert "tool: disabled, missing: The program frobnicate was not found" in said


def test_command_exits_1_when_something_enabled_is_not(shy):
    configure("shy", mood="crash")
    note_runs({"shy": BROKEN})
    code, said = run_command()
    assert code == 1
    assert "shy: enabled, failing: Version 1.0.0 was ended by SIGABRT. (last run 20" in said
    assert "p95 0.50 s, failed 1 of 1)" in said
    assert run_command("patterns", "tool")[0] == 0
    code, said = run_command("shy", format="json")
    document = json.loads(said)
    assert (code, document["healthy"]) == (1, False)
    (plugin,) = document["plugins"]
    assert (plugin["name"], plugin["version"], plugin["enabled"]) == ("shy", "1.0.0", True)
    assert plugin["health"]["status"] == "failing"


def test_command_says_which_installed_analyzers_cannot_be_used(shy, capsys):
    shy.install("another_package", "", other="Nobody")
    assert run_command()[0] == 0
    assert "The installed analyzer other cannot be used: it cannot be loaded: AttributeError" in capsys.readouterr().err
    assert "Nobody" in json.loads(run_command("--format", "json")[1])["problems"]["other"]


def test_command_refuses_wrong_use(shy):
    code, said = run_command("magic")
    assert code == 2 and said.startswith("There is no plugin magic. Known are: ") and "shy, " in said
    viewer = make_user("viewer")
    code, said = run_command(acting_user=viewer.username)
    assert (code, "change" in said) == (2, True)
    grant(action="change", holder=viewer, target=Plugin.objects.get(name="shy"))
    assert run_command(acting_user=viewer.username)[1].count("\n") == 1


def test_command_draws_a_table_for_people(shy):
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    configure("shy", mood="crash")
    out = Terminal()
    with pytest.raises(SystemExit):
        call_command("check_plugins", stdout=out)
    lines = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()).splitlines()
    assert lines[0].split()[:3] == ["Plugin", "Version", "Health"]
    assert any("shy: Version 1.0.0 was ended by SIGABRT." in line for line in lines)


def test_help_of_the_command_names_its_exit_codes(capsys):
    with pytest.raises(SystemExit):
        check_plugins.Command().run_from_argv(["manage.py", "check_plugins", "--help"])
    said = capsys.readouterr().out
    assert "  1  some enabled plugin is degraded, failing or missing" in said


def test_a_run_before_the_last_change_does_not_count(shy):
    with change_set():
        configure("shy", mood="good")
    run = PluginRun.objects.create(plugin=Plugin.objects.get(name="shy"), seconds=1, failures=1)
    PluginRun.objects.filter(pk=run.pk).update(ran_at=run.ran_at - timedelta(days=1))
    assert look("shy").status == "healthy"
