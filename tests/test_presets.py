"""Can every shipped document be imported as it stands, one after the other?"""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command

from governance_config.management.commands.prepare import STARTER
from plugins.models import Plugin
from plugins.services import sync_plugins
from rules.models import AnalysisRule

pytestmark = pytest.mark.django_db
PRESETS = sorted(STARTER.parent.glob("*.yaml"), key=lambda path: path != STARTER)


def test_the_starter_comes_first_and_others_are_there():
    assert PRESETS[0] == STARTER
    assert "external-tools.yaml" in {path.name for path in PRESETS}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_can_be_imported_and_a_second_time_changes_nothing(capsys, preset):
    sync_plugins()
    call_command("import_config", str(STARTER), apply=True, stdout=StringIO())
    reached = AnalysisRule.objects.count()
    call_command("import_config", str(preset), plan=True, stdout=StringIO())
    call_command("import_config", str(preset), apply=True, stdout=StringIO())
    assert "refused" not in capsys.readouterr().err
    call_command("import_config", str(preset), apply=True, stdout=StringIO())
    assert "0 created, 0 updated" in capsys.readouterr().err.splitlines()[-1]
    added = 3 if preset.stem == "external-tools" else 0
    assert AnalysisRule.objects.count() == reached + added


def test_the_preset_of_external_tools_switches_them_on(capsys):
    sync_plugins()
    assert not Plugin.objects.filter(name__in=["ruff", "bandit"], enabled=True).exists()
    for preset in PRESETS:
        call_command("import_config", str(preset), apply=True, stdout=StringIO())
    assert Plugin.objects.filter(name__in=["ruff", "bandit"], enabled=True).count() == 2
    assert AnalysisRule.objects.filter(plugin__in=["ruff", "bandit"], enabled=True).count() == 3
