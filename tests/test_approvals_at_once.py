"""Two people at once: approvals are counted one after the other, and nobody approves what he has not seen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections

from audit.changes import Origin, change_set, originating
from audit.errors import StaleVersion, StateConflict
from audit.models import ConfigurationAuditLog
from overrides import approvals
from overrides.models import GovernanceRuleOverride
from tests.factories import make_request, make_rule, make_user

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="threads write at once on PostgreSQL only"),
]


@pytest.fixture(autouse=True)
def roles() -> None:
    """A flush before this test has taken the roles of the migrations along."""
    call_command("migrate", verbosity=0)


def run_at_once(*acts: tuple[Any, Callable[[Any], Any]]) -> list[Any]:
    """What each act, by its user, gives or raises. All of them have read before the first one writes."""
    barrier, outcomes = threading.Barrier(len(acts)), [None] * len(acts)

    def run(number: int, user: Any, act: Callable[[Any], Any]) -> None:
        try:
            with originating(Origin(source="api", user=user)):
                barrier.wait(10)
                outcomes[number] = act(user)
        except Exception as error:
            outcomes[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number, *act)) for number, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def approving(override: GovernanceRuleOverride, seen: int | None = None) -> Callable[[Any], Any]:
    def act(user: Any) -> str:
        return approvals.approve(override=override, user=user, comment="Yes.", seen=seen).status

    return act


def test_two_approvers_at_once_make_two_approvals_of_a_critical_rule():
    override = make_request(make_rule(severity="critical"))
    users = [make_user("override approver") for _ in range(2)]
    outcomes = run_at_once(*((user, approving(override)) for user in users))
    assert sorted(outcomes) == ["active", "proposed"]
    stored = GovernanceRuleOverride.objects.get()
    assert (stored.enabled, stored.approval_count) == (True, 2)
    assert sorted(each.decided_by for each in stored.decisions.filter(kind="approved")) == sorted(
        user.username for user in users
    )


def test_two_approvers_at_once_put_a_usual_override_in_force_once():
    override = make_request(make_rule())
    users = [make_user("override approver") for _ in range(2)]
    outcomes = run_at_once(*((user, approving(override)) for user in users))
    assert outcomes.count("active") == 1
    (refused,) = [outcome for outcome in outcomes if outcome != "active"]
    assert isinstance(refused, StateConflict)
    assert ConfigurationAuditLog.objects.filter(change_type="override_approved").count() == 1


def test_one_person_in_two_windows_counts_once():
    override, user = make_request(make_rule(severity="critical")), make_user("override approver")
    outcomes = run_at_once((user, approving(override)), (user, approving(override)))
    assert outcomes.count("proposed") == 1
    assert GovernanceRuleOverride.objects.get().approval_count == 1


@pytest.mark.parametrize("attempt", range(5))
def test_an_edit_that_races_an_approval_is_never_approved_unseen(attempt):
    requester = make_user("rule editor")
    override, approver = make_request(make_rule(), by=requester), make_user("override approver")

    def edit(user: Any) -> str:
        values = {"override_config": {"enabled": False}}
        return approvals.edit(override=override, user=user, values=values).status

    approved, edited = run_at_once((approver, approving(override, seen=override.version)), (requester, edit))
    stored = GovernanceRuleOverride.objects.get()
    assert edited == "proposed"
    assert approved == "active" or isinstance(approved, StaleVersion)
    # Whichever was first: what is stored now was seen by nobody, so it waits.
    assert (stored.status, stored.enabled, stored.approval_count) == ("proposed", False, 0)
    assert stored.override_config == {"enabled": False}


def test_an_edit_committed_while_the_approver_waits_for_the_lock_is_told_to_him():
    requester = make_user("rule editor")
    override, approver = make_request(make_rule(), by=requester), make_user("override approver")
    held, finish, outcome = threading.Event(), threading.Event(), []

    def hold() -> None:
        with originating(Origin(source="api", user=requester)), change_set():
            values = {"expires_at": override.expires_at + timedelta(days=1)}
            approvals.edit(override=override, user=requester, values=values)
            held.set()
            finish.wait(10)
        connections.close_all()

    def decide() -> None:
        held.wait(10)
        timer = threading.Timer(0.2, finish.set)
        timer.start()
        try:
            with originating(Origin(source="api", user=approver)):
                approvals.approve(override=override, user=approver, seen=override.version)
        except StaleVersion as error:
            outcome.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=hold), threading.Thread(target=decide)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcome) == 1
    assert not GovernanceRuleOverride.objects.get().enabled
