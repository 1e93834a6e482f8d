"""How does a form take a change? With a reason, with the version it was read at, and with errors where they belong."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from unfold.widgets import UnfoldAdminTextareaWidget

from audit.changes import MAX_REASON, current_origin
from audit.diffs import name_fields, spell
from audit.errors import Busy, FieldError, InvalidEntries, NotPermitted, StaleVersion
from audit.models import ConfigurationAuditLog
from audit.permissions import may_break_glass

REFUSALS = (ValidationError, StaleVersion, Busy, NotPermitted, InvalidEntries)
"""What may be said against a change; every door of the admin shows it and stores nothing."""

CODE_CLASS = "code-entry"


def reason_field() -> forms.CharField:
    """The field that asks why."""
    return forms.CharField(
        label="Reason",
        max_length=MAX_REASON,
        help_text="Why you make this change. It stands in the history beside your name.",
        error_messages={"required": "Say why you make this change."},
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "maxlength": MAX_REASON}),
    )


GOVERNED = ("governance", "second_person")
"""Codes of refusals that somebody may pass over in an emergency."""


def break_glass_field() -> forms.CharField:
    """The field that asks why the governance rules are to be passed over. Left empty, they are not."""
    return forms.CharField(
        label="Break the glass",
        required=False,
        max_length=MAX_REASON,
        help_text="Only in an emergency: say what it is, and this is stored although governance rules refuse it. The "
        "journal marks it, and whoever approves is told. Leave it empty to keep to the rules.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "maxlength": MAX_REASON}),
    )


def offers_break_glass(request: Any) -> bool:
    """Whether governance rules have just refused what somebody wants who may pass over them."""
    refusal = getattr(request, "refusal", None)
    if not isinstance(refusal, ValidationError) or hasattr(refusal, "error_dict"):
        return False
    return any(item.code in GOVERNED for item in refusal.error_list) and may_break_glass(request.user)


def take_break_glass(request: Any) -> None:
    """Let the origin of the request break the glass if its form says why."""
    request.origin.break_glass = request.POST.get("break_glass", "").strip() or None


def list_refusals(error: Exception) -> list[str]:
    """The sentences of a refusal."""
    if isinstance(error, InvalidEntries):
        return [text for _, invalid in sorted(error.errors.items()) for text in list_refusals(invalid)]
    if not isinstance(error, ValidationError):
        return [str(error)]
    if not hasattr(error, "error_dict"):
        return list(error.messages)
    return [
        text if name == NON_FIELD_ERRORS else f"{_call(name)}: {text}"
        for name, errors in error.error_dict.items()
        for item in errors
        for text in item.messages
    ]


def _call(name: str) -> str:
    return name.replace("_", " ").capitalize()


class ReasonedForm:
    """Mixin of a form that changes something: asks for a reason and shows what the kernel says against the change.

    `refusal` of the running request is the error that a first attempt has met.
    """

    error_fields: dict[str, str] = {}  # a field of the model → the field of the form that stands for it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["change_reason"] = reason_field()
        request = current_origin().request
        if getattr(request, "is_check", False):
            self.fields["change_reason"].required = False
        if offers_break_glass(request):
            self.fields["break_glass"] = break_glass_field()

    @property
    def checked(self) -> list[str] | None:
        """What governance rules would warn of, if that is all that was asked; None if it was not asked."""
        return getattr(current_origin().request, "checked", None)

    def is_valid(self) -> bool:
        """A form that was only checked is shown once more, and never stored."""
        return super().is_valid() and self.checked is None

    def full_clean(self) -> None:
        super().full_clean()
        refusal = getattr(current_origin().request, "refusal", None)
        if refusal is None or not self.is_bound:
            return
        if isinstance(refusal, StaleVersion):
            # The form has said it already if it saw the version; a change between two reads is told here.
            if not self.has_error(NON_FIELD_ERRORS, "stale"):
                self.add_error(None, str(refusal))
        elif isinstance(refusal, ValidationError):
            self.add_error(None, refusal)
        else:
            for text in list_refusals(refusal):
                self.add_error(None, text)

    def add_error(self, field: str | None, error: Any) -> None:
        """Put an error at its field, naming the entry it points to; at the top if the form does not have the field."""
        error = error if isinstance(error, ValidationError) else ValidationError(error)
        by_field = error.error_dict if hasattr(error, "error_dict") else {field or NON_FIELD_ERRORS: error.error_list}
        for name, items in by_field.items():
            name = self.error_fields.get(name, name)
            if name in self.fields:
                named = [self._name_entry(name, item) for item in items]
                super().add_error(name, named)
            else:
                head = "" if name == NON_FIELD_ERRORS else f"{_call(name)}: "
                super().add_error(None, [ValidationError(head + "; ".join(i.messages), code=i.code) for i in items])

    def _name_entry(self, name: str, item: ValidationError) -> ValidationError:
        if not isinstance(item, FieldError) or not item.pointer:
            return item
        field, text = self.fields[name], "; ".join(item.messages)
        if hasattr(field, "mark_error"):
            field.mark_error(item.pointer, text)
        entry = field.name_entry(item.pointer) if hasattr(field, "name_entry") else item.pointer.replace("/", " › ")
        return ValidationError(f"{entry}: {text}", code=item.code)


class GovernedForm(ReasonedForm, forms.ModelForm):
    """Form of a governed object. It carries the version that the user has seen, and never overwrites a newer one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["version"] = forms.IntegerField(
            widget=forms.HiddenInput, required=False, initial=self.instance.version
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.instance._state.adding:
            self._check_version(cleaned.get("version"))
        return cleaned

    @property
    def is_stale(self) -> bool:
        """Whether somebody else was faster."""
        return self.has_error(NON_FIELD_ERRORS, "stale")

    def _check_version(self, seen: int | None) -> None:
        if seen is None:
            raise ValidationError("The form does not say which version it was made from. Load the page again.")
        if seen == self.instance.version:
            return
        rows = list(
            ConfigurationAuditLog.objects.filter(
                entity_type=self.instance.entity_type, entity_id=self.instance.entity_id, revision__gt=seen
            ).order_by("-revision")[:20]
        )
        who = ", ".join(dict.fromkeys(row.changed_by for row in rows)) or "somebody"
        fields = list(dict.fromkeys(name for row in rows for name in name_fields(row.old_config, row.new_config)))
        when = f" at {rows[0].created_at:%H:%M:%S on %-d %B %Y}" if rows else ""
        what = f" ({', '.join(_call(name).lower() for name in fields)})" if fields else ""
        self.add_error(
            None,
            ValidationError(
                f"{who} changed this{when}{what}, after you had opened it. Your entries are still below: copy what you "
                "need, load the page again and repeat your change.",
                code="stale",
            ),
        )
        present = self.instance.document()
        for name in fields:
            if name in self.fields:
                value = spell(present.get(name))
                shown = value if value is not None and len(value) < 200 and "\n" not in value else "something else"
                self.add_error(name, f"{who} set this to: {shown or 'nothing'}")


class LinesField(forms.CharField):
    """A list of texts, written one a line."""

    def __init__(self, *, code: bool = False, entry: str = "Line", **kwargs: Any) -> None:
        attrs = {"rows": 3, "class": CODE_CLASS, "spellcheck": "false"} if code else {"rows": 3}
        kwargs.setdefault("widget", UnfoldAdminTextareaWidget(attrs=attrs))
        kwargs.setdefault("required", False)
        self.entry = entry
        super().__init__(strip=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:
        lines = [line.strip() for line in str(value or "").splitlines()]
        return [line for line in lines if line]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return list(initial or []) != self.to_python(data)

    def name_entry(self, pointer: str) -> str:
        """Which line an error speaks of."""
        return f"{self.entry} {int(pointer) + 1}" if pointer.isdigit() else pointer


class BulkForm(forms.Form):
    """What the confirmation page of a bulk action asks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["change_reason"] = reason_field()
        if offers_break_glass(current_origin().request):
            self.fields["break_glass"] = break_glass_field()
