"""Who guesses passwords has to wait, at every door; who gives the right one is let in."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from tests.admin_client import text
from tests.factories import PASSWORD, make_user
from tests.rest import TOKEN, expect_problem

pytestmark = pytest.mark.django_db
LOGIN = "/admin/login/"


@pytest.fixture(autouse=True)
def three_failures(settings):
    settings.AXES_FAILURE_LIMIT = 3
    make_user("administrator", username="anna")


def ask_token(name: str = "anna", password: str = "wrong", address: str = "10.0.0.1"):
    return APIClient(REMOTE_ADDR=address).post(TOKEN, {"username": name, "password": password})


def sign_in(name: str = "anna", password: str = "wrong", address: str = "10.0.0.1"):
    return Client(REMOTE_ADDR=address).post(LOGIN, {"username": name, "password": password, "next": "/admin/"})


def lock(address: str = "10.0.0.1") -> None:
    for _ in range(3):
        last = ask_token(address=address)
    assert last.status_code == 429


def test_the_api_answers_guesses_with_429_and_the_seconds_to_wait():
    assert [ask_token().status_code for _ in range(3)] == [401, 401, 429]
    response = ask_token(password=PASSWORD)
    body = expect_problem(response, 429, "throttled")
    assert "Too many wrong passwords" in body["detail"]
    assert 800 < int(response["Retry-After"]) <= 900
    assert "no-store" in response["Cache-Control"]
    assert "WWW-Authenticate" not in response


def test_the_admin_answers_guesses_with_a_page_that_says_how_long():
    assert [sign_in().status_code for _ in range(3)] == [200, 200, 429]
    response = sign_in(password=PASSWORD)
    assert response.status_code == 429
    assert "Too many wrong passwords for this name from this address. Try again in 15 min." in text(response)
    assert 800 < int(response["Retry-After"]) <= 900
    assert "sessionid" not in response.cookies


def test_guesses_at_one_door_count_at_the_other():
    sign_in()
    ask_token()
    assert sign_in().status_code == 429
    assert ask_token(password=PASSWORD).status_code == 429


def test_a_lock_is_for_a_name_and_an_address():
    lock()
    make_user(username="berta")
    assert ask_token("berta", PASSWORD).status_code == 201
    assert ask_token(password=PASSWORD, address="10.0.0.2").status_code == 201
    assert ask_token(password=PASSWORD).status_code == 429


def test_an_address_that_the_client_claims_is_not_believed():
    for number in range(3):
        APIClient(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=f"192.0.2.{number}").post(
            TOKEN, {"username": "anna", "password": "wrong"}
        )
    assert ask_token(password=PASSWORD).status_code == 429
    assert {attempt.ip_address for attempt in AccessAttempt.objects.all()} == {"10.0.0.1"}


def test_another_browser_does_not_start_from_nought():
    for number in range(3):
        response = APIClient(REMOTE_ADDR="10.0.0.1", HTTP_USER_AGENT=f"browser {number}").post(
            TOKEN, {"username": "anna", "password": "wrong"}
        )
    assert response.status_code == 429


def test_the_lock_ends_after_the_cool_off_however_often_was_knocked():
    lock()
    for _ in range(5):
        assert ask_token(password=PASSWORD).status_code == 429
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=14))
    response = ask_token(password=PASSWORD)
    assert response.status_code == 429 and int(response["Retry-After"]) <= 60
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=15, seconds=1))
    assert ask_token(password=PASSWORD).status_code == 201


def test_the_right_password_starts_from_nought():
    ask_token()
    ask_token()
    assert ask_token(password=PASSWORD).status_code == 201
    assert [ask_token().status_code for _ in range(3)] == [401, 401, 429]


def test_an_unknown_name_is_locked_like_a_known_one():
    assert [ask_token("nobody").status_code for _ in range(3)] == [401, 401, 429]


def test_failures_are_kept_no_longer_than_they_count():
    for number in range(5):
        ask_token(f"nobody-{number}")
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    ask_token()
    assert [attempt.username for attempt in AccessAttempt.objects.all()] == ["anna"]
    ask_token(password=PASSWORD)
    assert not AccessAttempt.objects.exists() and not AccessLog.objects.exists()
    assert not AccessFailureLog.objects.exists()


def test_a_lock_does_not_let_its_row_grow():
    lock()
    before = AccessAttempt.objects.values().get()
    for _ in range(3):
        sign_in()
    assert AccessAttempt.objects.values().get() == before


def test_failures_are_logged_on_one_line_without_the_password(caplog):
    with caplog.at_level(logging.DEBUG):
        sign_in("anna\nroot", "hunter2-secret")
        sign_in("anna", "hunter2-secret")
        ask_token("anna", "hunter2-secret")
        ask_token("anna", "hunter2-secret")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("axes")]
    assert any("failure by 'anna' from 10.0.0.1 at /admin/login/" in line for line in lines)
    assert any("Locking out 'anna' from 10.0.0.1" in line for line in lines)
    assert not any("hunter2" in record.getMessage() for record in caplog.records)
    assert not any("\n" in line for line in lines)
    kept = str(list(AccessAttempt.objects.values()))
    assert "hunter2" not in kept


def test_one_address_tries_so_many_names_a_minute(settings):
    settings.RATES = {**settings.RATES, "auth": 4}
    assert [ask_token(f"name-{number}").status_code for number in range(3)] == [401] * 3
    assert sign_in("name-4").status_code == 200
    refused = sign_in("name-5")
    assert (refused.status_code, "requests to sign in" in text(refused)) == (429, True)
    response = ask_token("name-6")
    expect_problem(response, 429, "throttled")
    assert 0 < int(response["Retry-After"]) <= 61 and 0 < int(refused["Retry-After"]) <= 61
    assert ask_token("name-7", address="10.0.0.9").status_code == 401


def test_the_pages_of_the_lock_are_nobodys_business():
    boss = make_user(superuser=True)
    client = Client()
    client.force_login(boss, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/admin/axes/accessattempt/").status_code == 404
