"""How are accounts and roles read and changed over HTTP? By the rights, and with the rules, of the admin's pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import django_filters
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit.changes import ChangeSet, change_set
from audit.errors import FieldError, NotPermitted
from audit.listing import FlagFilter
from audit.permissions import ADD, CHANGE, DELETE, require
from audit.problems import Entry, invalid
from audit.serializers import GovernedSerializer, StrictCharField
from audit.viewsets import DestroyMixin, ReadViewSet, WriteViewSet, apply
from governance_config.accounts import grantable_roles, outranks

User = get_user_model()
NAME = "[^/]{1,150}"


class RoleNames(serializers.ListField):
    """The roles of an account, by name."""

    child = StrictCharField(max_length=150)

    def get_attribute(self, instance: Any) -> list[str]:
        return sorted(group.name for group in instance.groups.all())


class UserSerializer(GovernedSerializer):
    """An account. Its password can be set and never be read."""

    id = serializers.IntegerField(read_only=True)
    email = StrictCharField(required=False, allow_blank=True, max_length=254)
    roles = RoleNames(required=False, help_text="All of them: those that are left out are taken away.")
    password = StrictCharField(
        write_only=True,
        required=False,
        max_length=1_000,
        style={"input_type": "password"},
        help_text="A new password; required for a new account.",
    )

    class Meta:
        model = User
        fields = (
            *("id", "username", "first_name", "last_name", "email", "is_active", "is_staff", "is_superuser", "roles"),
            *("password", "last_login", "date_joined", "warnings", "change_reason"),
        )
        read_only_fields = ("last_login", "date_joined")

    permissions = None


class UserFilters(django_filters.FilterSet):
    """What a list of accounts can be limited to."""

    is_active = FlagFilter()
    is_superuser = FlagFilter()
    role = django_filters.CharFilter(method="filter_role", label="Name of a role.")

    class Meta:
        model = User
        fields: ClassVar[list[str]] = []

    def filter_role(self, queryset: Any, name: str, value: str) -> Any:
        if not Group.objects.filter(name=value).exists():
            raise invalid(Entry(f"/{name}", f"There is no role {value!r}.", "does_not_exist"))
        return queryset.filter(groups__name=value)


class UserViewSet(DestroyMixin, WriteViewSet):
    """Accounts. Nobody gives, or takes over, a right that he does not hold himself."""

    queryset = User.objects.prefetch_related("groups")
    serializer_class = UserSerializer
    filterset_class = UserFilters
    search_fields = ("username", "first_name", "last_name", "email")
    ordering = ("username",)
    ordering_fields = {name: name for name in ("id", "username", "last_login", "date_joined")}
    lookup_field = lookup_url_kwarg = "username"
    lookup_value_regex = NAME
    extras = ("roles", "password")
    conflicts = ("create", "update", "partial_update", "destroy")

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Create an account with its password and roles."""
        require(request.user, ADD, User)
        reason, values, extras = self.read_body(request, partial=False)
        if "password" not in extras:
            raise invalid(Entry("/password", "This field is required.", "required"))
        account = User(**values)
        self.check(account, values, extras)
        with change_set(reason=reason) as changes:
            if User.objects.filter(username__iexact=account.username).exists():
                raise ValidationError({"username": "There is an account with this name already."}, code="unique")
            account.set_password(extras.pop("password"))
            account.save()
            self.store_extras(account, extras)
        response = self.tell(account, changes, status=201)
        response["Location"] = f"{request.path}/{account.username}"
        return response

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change the fields that are sent, roles and password among them, and no other: PUT and PATCH alike."""
        seen = self.get_object()
        self.require_rank(seen, CHANGE)
        reason, values, extras = self.read_body(request, partial=True, instance=seen)
        self.check(apply(self.get_object(), values), values, extras)
        with change_set(reason=reason) as changes:
            account = self.reload(seen)
            self.require_rank(account, CHANGE)
            if any(getattr(account, name) != value for name, value in values.items()):
                apply(account, values).full_clean(exclude={"password"})
                account.save()
            self.store_extras(account, extras)
        return self.tell(account, changes)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change the fields that are sent, and no other: PUT and PATCH alike."""
        return self.update(request, *args, **kwargs)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete an account, never one's own; what it has done stays in the journal by its name."""
        seen = self.get_object()
        self.require_rank(seen, DELETE)
        if seen == request.user:
            raise NotPermitted("Nobody deletes his own account.")
        with change_set(reason=self.read_reason(request)) as changes:
            account = self.reload(seen)
            self.require_rank(account, DELETE)
            account.delete()
        return Response(status=204, headers={"X-Revision": str(changes.revision)})

    def require_rank(self, account: Any, action: str) -> None:
        """Raise unless the caller may do `action` on accounts, and on this one."""
        require(self.request.user, action, User)
        if not outranks(self.request.user, account):
            raise NotPermitted(f"{account} has rights that you do not have: somebody who has them must do this.")

    def check(self, account: Any, values: Mapping[str, Any], extras: Mapping[str, Any]) -> None:
        """Judge an account as it will be, and whether the caller may give what he gives. Before the lock."""
        actor, stored = self.request.user, User.objects.filter(pk=account.pk).first()
        if account.is_superuser != (stored is not None and stored.is_superuser) and not actor.is_superuser:
            raise NotPermitted("Only a superuser makes, or unmakes, a superuser.")
        account.full_clean(exclude={"password"})
        if "password" in extras:
            try:
                validate_password(extras["password"], account)
            except ValidationError as error:
                raise ValidationError({"password": error.error_list}) from error
        if "roles" in extras:
            self.find_roles(extras["roles"])

    def find_roles(self, names: list[str]) -> list[Group]:
        """The roles of these names, if the caller may give them all."""
        known = {group.name: group for group in Group.objects.filter(name__in=names)}
        given = set(grantable_roles(self.request.user))
        problems = []
        for index, name in enumerate(names):
            if name not in known:
                problems.append(FieldError(f"There is no role {name!r}.", pointer=str(index), code="does_not_exist"))
            elif known[name].pk not in given:
                text = f"You do not hold all rights of {name!r} yourself."
                problems.append(FieldError(text, pointer=str(index), code="forbidden"))
        if problems:
            raise ValidationError({"roles": problems})
        return list(known.values())

    def store_extras(self, account: Any, extras: Mapping[str, Any]) -> None:
        if "roles" in extras:
            account.groups.set(self.find_roles(extras["roles"]))
        if "password" in extras and not account.check_password(extras["password"]):
            account.set_password(extras["password"])
            account.save(update_fields=["password"])

    def tell(self, account: Any, changes: ChangeSet, *, status: int = 200) -> Response:
        """The account as it is now, and the revision that was reached."""
        body = self.show(self.reread(account), warnings=changes.warnings)
        return Response(body, status=status, headers={"X-Revision": str(changes.revision)})


class RoleSerializer(serializers.ModelSerializer):
    """A role: it comes with the release. Who is in it is changed at the accounts."""

    permissions = serializers.SerializerMethodField(help_text="Such as rules.change_analysisrule.")
    members = serializers.SerializerMethodField(help_text="Names of the accounts.")

    class Meta:
        model = Group
        fields = ("id", "name", "permissions", "members")
        read_only_fields = fields

    def get_permissions(self, role: Group) -> list[str]:
        return sorted(f"{each.content_type.app_label}.{each.codename}" for each in role.permissions.all())

    def get_members(self, role: Group) -> list[str]:
        return sorted(user.username for user in role.user_set.all())


@extend_schema(description="Roles: what each may do, and who is in it.")
class RoleViewSet(ReadViewSet):
    """Roles."""

    http_method_names = ["get", "head"]
    queryset = Group.objects.prefetch_related("permissions__content_type", "user_set")
    serializer_class = RoleSerializer
    search_fields = ("name",)
    ordering = ("name",)
    lookup_field = lookup_url_kwarg = "name"
    lookup_value_regex = NAME
