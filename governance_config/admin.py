"""Who has an account, and what may they do, in the admin? Users change in a change set; roles come from the code."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.contrib.messages.storage import default_storage
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.html import format_html_join
from django.views.decorators.debug import sensitive_post_parameters
from django_tasks_db.models import DBTaskResult
from knox.models import AuthToken
from unfold.contrib.filters.admin import BooleanRadioFilter, RelatedDropdownFilter
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from audit.badges import draw_chips, draw_moment, draw_switch
from audit.forms import ReasonedForm
from audit.governed_admin import ChangeSetAdmin, ReadOnlyAdmin
from audit.models import ConfigurationAuditLog
from governance_config.accounts import grantable_roles, outranks
from governance_config.exchange_admin import PresetAdmin

__all__ = ["AccountAdmin", "PresetAdmin", "RoleAdmin"]

User = get_user_model()
ACCOUNT_ENTITIES = ("user", "role_membership", "user_permission")


class AccountForm(ReasonedForm, UserChangeForm):
    """An account that exists."""


class NewAccountForm(ReasonedForm, UserCreationForm):
    """A new account; its rights follow on the next page."""


class PasswordForm(ReasonedForm, AdminPasswordChangeForm):
    """Somebody else's password."""


admin.site.unregister(User)
admin.site.unregister(Group)
# Tokens are made and revoked through the API, which shows a new one once.
admin.site.unregister(AuthToken)
# The queue of reviews: a session says where its review stands.
admin.site.unregister(DBTaskResult)


@admin.register(User)
class AccountAdmin(ChangeSetAdmin, DjangoUserAdmin):
    """Accounts. Nobody gives, or takes over, a right that he does not hold himself."""

    form = AccountForm
    add_form = NewAccountForm
    add_fieldsets = DjangoUserAdmin.add_fieldsets
    change_password_form = PasswordForm
    change_user_password_template = "admin/accounts/change_password.html"  # noqa: S105, a template

    list_display = ("username", "full_name", "email", "roles", "active", "staff", "superuser", "last_seen")
    list_filter = (
        ("is_active", BooleanRadioFilter),
        ("is_superuser", BooleanRadioFilter),
        ("groups", RelatedDropdownFilter),
    )
    filter_horizontal = ()
    formfield_overrides = {models.ManyToManyField: {"widget": UnfoldAdminCheckboxSelectMultipleWidget}}
    readonly_fields = ("last_login", "date_joined")
    actions = None
    fieldsets = (
        (None, {"fields": ("username", "password", ("first_name", "last_name"), "email")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    def get_queryset(self, request: HttpRequest) -> models.QuerySet:
        return super().get_queryset(request).prefetch_related("groups")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or outranks(request.user, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = super().has_delete_permission(request, obj)
        return allowed and (obj is None or (obj != request.user and outranks(request.user, obj)))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Accounts are deleted one by one."""
        return {}

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        readonly = tuple(super().get_readonly_fields(request, obj))
        return readonly if request.user.is_superuser else (*readonly, "is_superuser")

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and db_field.name == "groups":
            field.label = "Roles"
            field.help_text = "Only roles whose rights you hold yourself are offered."
            field.queryset = Group.objects.filter(pk__in=grantable_roles(request.user)).order_by("name")
        return field

    @method_decorator(sensitive_post_parameters())
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return self._add_view(request, form_url, extra_context)

    @method_decorator(sensitive_post_parameters())
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        def show() -> HttpResponse:
            return super(AccountAdmin, self).user_change_password(request, id, form_url)

        key = request.session.session_key

        def show_refusal() -> HttpResponse:
            # A stored password gives the session a new key and says so; both were undone in the database alone.
            request.session = type(request.session)(key)
            request._messages = default_storage(request)
            return show()

        return self.run(request, show, show_refusal) if request.method == "POST" else show()

    def history_of(self, obj: Any) -> models.QuerySet[ConfigurationAuditLog]:
        return ConfigurationAuditLog.objects.filter(entity_type__in=ACCOUNT_ENTITIES, entity_id=str(obj.pk))

    @admin.display(description="Name")
    def full_name(self, account: Any) -> str:
        return account.get_full_name()

    @admin.display(description="Last sign-in (UTC)", ordering="last_login")
    def last_seen(self, account: Any) -> str:
        return draw_moment(account.last_login)

    @admin.display(description="Roles")
    def roles(self, account: Any) -> str:
        return draw_chips([group.name for group in account.groups.all()], "persona") or "–"

    @admin.display(description="Active", ordering="is_active")
    def active(self, account: Any) -> str:
        return draw_switch(account.is_active)

    @admin.display(description="Admin", ordering="is_staff")
    def staff(self, account: Any) -> str:
        return draw_switch(account.is_staff)

    @admin.display(description="Superuser", ordering="is_superuser")
    def superuser(self, account: Any) -> str:
        return draw_switch(account.is_superuser)


@admin.register(Group)
class RoleAdmin(ReadOnlyAdmin, DjangoGroupAdmin):
    """Roles: they come with the release and are only shown."""

    list_display = ("name", "right_count", "member_count")
    fieldsets = ((None, {"fields": ("name", "rights", "members")}),)
    readonly_fields = ("rights", "members")
    actions = None

    def get_queryset(self, request: HttpRequest) -> models.QuerySet:
        counts = {
            "rights_here": models.Count("permissions", distinct=True),
            "members_here": models.Count("user", distinct=True),
        }
        return super().get_queryset(request).annotate(**counts)

    @admin.display(description="Rights", ordering="rights_here")
    def right_count(self, group: Any) -> int:
        return group.rights_here

    @admin.display(description="Members", ordering="members_here")
    def member_count(self, group: Any) -> int:
        return group.members_here

    @admin.display(description="Rights")
    def rights(self, group: Group) -> str:
        names = sorted(right.name for right in group.permissions.all())
        return format_html_join("", "<div>{}</div>", ((name,) for name in names))

    @admin.display(description="Members")
    def members(self, group: Group) -> str:
        return draw_chips(group.user_set.order_by("username").values_list("username", flat=True), "persona") or "–"
