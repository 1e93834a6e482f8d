"""What happens to who guesses passwords? After some wrong ones for a name, it is locked for that address, for a while.

django-axes counts and locks, for every door alike; here is what it says. The address is the one that the journal has:
behind a proxy that of the client, as far as the server was told to believe the proxy.
"""

from __future__ import annotations

import math
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import patch_cache_control

from audit.middleware import read_address
from audit.problems import Problem
from governance_config.rest import is_api, respond


def answer_lockout(
    request: HttpRequest, response: HttpResponse | None = None, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """The answer to somebody who is locked out, whatever password he gave now: a page, or a problem in the API."""
    wait = find_wait(request, (credentials or {}).get("username"))
    minutes = math.ceil(wait / 60)
    said = f"Too many wrong passwords for this name from this address. Try again in {minutes} min."
    if is_api(request):
        answer = respond(request, Problem("throttled", said, headers={"Retry-After": str(wait)}))
    else:
        answer = show_wait(request, said, wait)
    patch_cache_control(answer, private=True, no_store=True)
    return answer


def show_wait(request: HttpRequest, said: str, wait: int) -> HttpResponse:
    """The page for a person who has to wait `wait` seconds."""
    context = {**admin.site.each_context(request), "title": "Locked for a while", "said": said}
    answer = render(request, "admin/locked.html", context, status=429)
    answer["Retry-After"] = str(wait)
    return answer


def find_wait(request: HttpRequest, username: str | None) -> int:
    """Seconds until the last of the wrong passwords is forgotten."""
    attempts = AccessAttempt.objects.filter(username=username, ip_address=read_address(request))
    last = attempts.aggregate(last=Max("attempt_time"))["last"] or timezone.now()
    return max(1, math.ceil((last + settings.AXES_COOLOFF_TIME - timezone.now()).total_seconds()))


def describe_client(username: Any, ip_address: Any, user_agent: str, path_info: Any, request: HttpRequest) -> str:
    """Who tried to sign in, for the log: on one line, whatever was typed, and never the password."""
    return f"{str(username)[:150]!a} from {ip_address} at {request.path}"
