"""Who listens, and which changes may he be told of? Credentials, and rights as they were at a revision.

The rights of a listener are loaded once and hold until a change of rights that concerns him passes through the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from knox.auth import TokenAuthentication
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed

from audit.governed import GovernedModel, governed_models
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from audit.permissions import VIEW, has_grants, may, permitted
from audit.stream import Event

UNAUTHENTICATED, FORBIDDEN = 4401, 4403  # the close codes of a WebSocket
OF_USER = ("user", "role_membership", "user_permission")  # their `entity_id` is the key of an account
OF_ROLE = ("role", "role_permission")  # their `entity_id` is the key of a role


class Ended(Exception):
    """The listener may listen no longer: `code` closes his socket, the text says why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Credential:
    """What somebody showed: a token (by its digest) or a session (by its key)."""

    user: Any  # primary key
    kind: str  # token, session
    key: str
    mark: str = ""  # of a token, its name in the journal
    expires_at: datetime | None = None
    username: str = field(default="", compare=False)  # for the log

    def check_clock(self, now: datetime) -> None:
        """Raise `Ended` once the token or session has expired."""
        if self.expires_at is not None and now >= self.expires_at:
            raise Ended(UNAUTHENTICATED, f"The {self.kind} has expired.")


@dataclass(frozen=True)
class Rights:
    """What one listener may be told of; true until a later change of rights that concerns him."""

    as_of: int  # revision
    user: str
    roles: frozenset[str] = frozenset()
    everything: bool = False
    kinds: frozenset[str] = frozenset()
    objects: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by kind that is granted one by one

    def show(self, event: Event) -> bool:
        """Whether the listener may know of `event`: by its object, or because he may read the whole journal."""
        if self.everything or event.entity_type in self.kinds:
            return True
        return not event.deleted and event.entity_id in self.objects.get(event.entity_type, ())

    def depend_on(self, event: Event, credential: Credential) -> bool:
        """Whether `event` may have changed these rights, or ended the credential."""
        if event.entity_type in OF_USER:
            return event.entity_id == self.user
        if event.entity_type in OF_ROLE:
            return event.entity_id in self.roles
        if event.entity_type == "token":
            return event.entity_id == credential.mark
        return event.entity_type == "grant" and bool(self.objects)


def authenticate_token(text: str) -> Credential:
    """The credential of an API token. Raises `Ended` if it is none, expired, or its account is locked."""
    if not text.isascii() or not text.isalnum():
        raise Ended(UNAUTHENTICATED, "Invalid token.")
    try:
        user, token = TokenAuthentication().authenticate_credentials(text.encode())
    except AuthenticationFailed as error:
        raise Ended(UNAUTHENTICATED, str(error.detail)) from error
    return describe_token(user, token)


def describe_token(user: Any, token: AuthToken) -> Credential:
    """The credential of a token that was checked."""
    return Credential(user.pk, "token", token.digest, token.token_key[:8], token.expiry, user.get_username())


def describe_session(user: Any, session: Any) -> Credential:
    """The credential of a session in which `user` has signed in. Whether it has expired, its store knows."""
    return Credential(user.pk, "session", session.session_key, username=user.get_username())


def load_rights(credential: Credential) -> Rights:
    """What the holder of `credential` may see now.

    Raises `Ended` if account, token or session are no longer good, or if there is nothing that he may see.
    """
    as_of = current_revision()  # first: what changes meanwhile passes through the journal afterwards
    user = get_user_model()._default_manager.filter(pk=credential.user, is_active=True).first()
    if user is None or not _is_good(credential, user):
        raise Ended(UNAUTHENTICATED, f"The account is locked, or the {credential.kind} has ended.")
    roles = frozenset(str(key) for key in user.groups.values_list("pk", flat=True))
    if may(user, VIEW, ConfigurationAuditLog):
        return Rights(as_of, str(user.pk), roles, everything=True)
    kinds = {model.entity_type: model for model in governed_models()}
    whole = frozenset(kind for kind, model in kinds.items() if may(user, VIEW, model))
    single = [model for kind, model in kinds.items() if kind not in whole and has_grants(model)]
    objects = {model.entity_type: _list_granted(user, model) for model in single}
    if not whole and not any(objects.values()):
        raise Ended(FORBIDDEN, "There is nothing that you may see: ask an administrator for a role.")
    return Rights(as_of, str(user.pk), roles, kinds=whole, objects=objects)


def _list_granted(user: Any, model: type[GovernedModel]) -> frozenset[str]:
    return frozenset(item.entity_id for item in permitted(user, VIEW, model._default_manager.all()))


def _is_good(credential: Credential, user: Any) -> bool:
    if credential.kind == "token":
        token = AuthToken.objects.filter(digest=credential.key, user=user).first()
        return token is not None and (token.expiry is None or token.expiry > timezone.now())
    stored = import_module(settings.SESSION_ENGINE).SessionStore(credential.key).load()
    mark = user.get_session_auth_hash()
    return stored.get(SESSION_KEY) == str(user.pk) and constant_time_compare(stored.get(HASH_SESSION_KEY, ""), mark)
