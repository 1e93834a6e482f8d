"""`?permissions=true` tells a frontend what its user may do with each object; what it tells is what then happens."""

from __future__ import annotations

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.governed import governed_models
from audit.permissions import grant, list_actions
from governance_config.api import config
from overrides.webhook_models import Webhook
from tests.factories import (
    api_client,
    make_assignment,
    make_governance_rule,
    make_override,
    make_persona,
    make_policy,
    make_rule,
    make_user,
)
from tests.rest import CONFIG

pytestmark = pytest.mark.django_db

VIEWSETS = {viewset.queryset.model: viewset for _, viewset, _ in config.registry}
ROUTES = {viewset.queryset.model: f"{CONFIG}/{prefix}" for prefix, viewset, _ in config.registry}


def make_two_of_each() -> None:
    one, other = make_rule(), make_rule()
    persona = make_persona("security")
    make_assignment(one, persona)
    make_assignment(other, persona)
    make_persona("idle", rule_types=[])
    make_governance_rule()
    make_governance_rule("another")
    make_policy("high")
    make_policy("low")
    make_override(one.name)
    make_override(other.name)


# Nobody sees a webhook who may not change it as well.
governed = pytest.mark.parametrize(
    "model", [each for each in governed_models() if each is not Webhook], ids=lambda model: model.entity_type
)


@governed
def test_lists_and_details_tell_what_the_caller_may_do_with_each_object(model):
    make_two_of_each()
    boss = api_client(make_user(superuser=True))
    body = boss.get(f"{ROUTES[model]}?permissions=true").json()
    assert len(body["results"]) >= 2
    everything = VIEWSETS[model].object_actions
    assert {"view"} < set(everything) <= set(list_actions(model))
    assert ("delete" in everything) == hasattr(VIEWSETS[model], "destroy")
    for row in body["results"]:
        assert sorted(row["permissions"]) == sorted(everything)
    viewer = api_client(make_user("viewer"))
    for row in viewer.get(f"{ROUTES[model]}?permissions=true").json()["results"]:
        assert row["permissions"] == ["view"]
        key = row.get("id", row.get("name"))
        assert viewer.get(f"{ROUTES[model]}/{key}?permissions=true").json()["permissions"] == ["view"]
        assert "permissions" not in viewer.get(f"{ROUTES[model]}/{key}").json()


@governed
def test_rights_on_single_objects_are_told_with_as_many_queries_for_many_as_for_few(model):
    make_two_of_each()
    user = make_user("viewer")
    counts = []
    for limit in (1, 2):
        ContentType.objects.clear_cache()
        with CaptureQueriesContext(connection) as captured:
            response = api_client(user).get(f"{ROUTES[model]}?permissions=true&limit={limit}")
        assert len(response.json()["results"]) == limit
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_a_grant_is_told_where_it_holds_and_nowhere_else():
    one, other = make_rule(), make_rule()
    user = make_user("viewer")
    grant(action="change", holder=user, target=one)
    told = {
        row["id"]: row["permissions"]
        for row in api_client(user).get(f"{CONFIG}/analysis-rules?permissions=true").json()["results"]
    }
    assert told == {one.pk: ["view", "change"], other.pk: ["view"]}
