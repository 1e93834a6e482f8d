"""Make an installation ready to serve: plugins, a first configuration and the first administrator."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from audit.changes import SYSTEM, change_set
from audit.commands import GovernedCommand
from audit.exchange import apply, parse
from audit.permissions import SYSTEM_ACTOR
from overrides.protection import WITHOUT_A_SECOND_PERSON
from plugins.services import sync_plugins
from reviews.models import ReviewSession
from reviews.sessions import review
from rules.models import AnalysisRule

# Presets are full of examples of what rules look for.
NOT_OWN_SOURCE = ["governance_config/presets/", "tests/"]
STARTER = Path(__file__).resolve().parents[2] / "presets" / "starter.yaml"


class Command(GovernedCommand):
    help = (
        "Make an installation ready to serve: rows of the installed plugins, the starter configuration if there is no "
        "rule yet, the administrator `admin` if there is no account yet, with the password in "
        "GOVERNANCE_ADMIN_PASSWORD or a generated one that is printed once, and a first review, of the server's own "
        "source, if there is none. Safe to repeat."
    )

    def act(self, user: Any, **options: Any) -> None:
        password = self._read_password()
        sync_plugins()
        self._make_review_root()
        self._load_starter()
        self._create_administrator(password)
        self._review_own_source()

    def tell_warnings(self, warnings: Sequence[str]) -> None:
        """An installation without people has no second person: only the journal says so, not the first screen."""
        super().tell_warnings([each for each in warnings if not each.startswith(WITHOUT_A_SECOND_PERSON)])

    def _make_review_root(self) -> None:
        """The folder below which reviews may be started; other ones than the default are there already."""
        default = settings.HOME / "codebases"
        if default in settings.REVIEW_ROOTS:
            default.mkdir(exist_ok=True)

    def _load_starter(self) -> None:
        if AnalysisRule.objects.exists():
            return
        plan = apply(parse(STARTER.read_bytes()), user=SYSTEM_ACTOR, reason="starter configuration")
        self.tell(f"Starter configuration: {plan.count('created')} objects created, revision {plan.revision}.")

    def _review_own_source(self) -> None:
        if ReviewSession.objects.exists():
            return
        done = review(settings.BASE_DIR, started_by=SYSTEM, exclude=NOT_OWN_SOURCE)
        self.tell(
            f"First review, of the server's own source (not its presets and tests): {len(done.result.findings)} "
            "findings, to be seen in the admin under Review sessions."
        )

    def _read_password(self) -> str:
        """The password of the first administrator, if one is needed and given. Refuses a weak one first of all."""
        password = os.environ.get("GOVERNANCE_ADMIN_PASSWORD") or ""
        users = get_user_model()
        if not password or users._default_manager.exists():
            return ""
        try:
            validate_password(password, users(username="admin"))
        except ValidationError as error:
            raise CommandError(f"GOVERNANCE_ADMIN_PASSWORD: {' '.join(error.messages)}", returncode=2) from error
        return password

    def _create_administrator(self, password: str) -> None:
        users = get_user_model()
        if users._default_manager.exists():
            return
        administrator = users(username="admin", is_staff=True, is_superuser=True)
        generated = "" if password else secrets.token_urlsafe(15)
        administrator.set_password(password or generated)
        with change_set(reason="first administrator"):
            administrator.save()
            administrator.groups.add(Group.objects.get(name="administrator"))
        if generated:
            # The one place where it can be read: it is stored hashed, and never logged.
            self.tell(f"\n  First administrator: admin\n  Password:            {generated}\n")
        else:
            self.tell("First administrator: admin, with the password from GOVERNANCE_ADMIN_PASSWORD.")
