"""Life and readiness, for load balancers: public, and without detail."""

from unittest.mock import patch

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from rest_framework.test import APIClient

from tests.factories import make_rule
from tests.rest import expect_problem, revision


def test_the_process_lives_without_asking_the_database():
    response = APIClient().get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.django_db
def test_a_server_with_its_database_is_ready_at_a_revision():
    make_rule()
    response = APIClient().get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "revision": revision(), "degraded": []}
    assert APIClient().head("/readyz").status_code == 200


@pytest.mark.django_db
def test_a_database_without_all_migrations_is_not_ready():
    MigrationRecorder(connection).migration_qs.filter(app="rules").delete()
    response = APIClient().get("/readyz")
    body = expect_problem(response, 503, "unavailable")
    assert "migrate" in body["detail"]
    assert response["Retry-After"]


@pytest.mark.django_db
def test_a_database_that_does_not_answer_is_told_without_its_address():
    with patch("governance_config.health.current_revision", side_effect=OperationalError("no route to db.internal")):
        body = expect_problem(APIClient().get("/readyz"), 503, "unavailable")
    assert "internal" not in str(body)


def test_health_takes_no_other_method():
    for address in ("/healthz", "/readyz"):
        expect_problem(APIClient().post(address), 405, "method-not-allowed")
