"""The examples of the rules, run by the command."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import models

from rules.models import AnalysisRule
from tests.factories import make_rule

pytestmark = pytest.mark.django_db


def run(*names: str, code: int = 0) -> str:
    out = StringIO()
    try:
        call_command("test_rules", *names, stdout=out)
        ended = 0
    except SystemExit as ending:
        ended = ending.code
    assert ended == code
    return out.getvalue()


def test_rules_that_do_what_their_examples_say_pass(capsys):
    make_rule()
    make_rule(name="bare", examples={})
    assert run() == ""
    assert "2 passed, 0 failed" in (said := capsys.readouterr().err)
    assert "Without examples: bare" in said


def test_a_rule_that_no_longer_does_is_named(capsys):
    rule = make_rule(name="no-eval")
    # As after an upgrade of its analyzer: the row was right when it was stored.
    models.QuerySet(AnalysisRule).filter(pk=rule.pk).update(configuration={"pattern": "exec"})
    assert run(code=1).startswith("no-eval/examples/match/0: ")
    assert run("no-eval", code=1)


def test_an_unknown_rule_is_wrong_use(capsys):
    run("nowhere", code=2)
    assert "There is no rule nowhere" in capsys.readouterr().err
