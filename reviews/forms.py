"""What is asked of a person who starts a review?"""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from audit.forms import LinesField
from reviews.roots import list_folders
from reviews.starting import MAX_NAME


class StartForm(forms.Form):
    """A folder below an allowed root, and how it is reviewed."""

    root = forms.ChoiceField(
        label="Folder", widget=UnfoldAdminSelectWidget, error_messages={"required": "Choose a folder."}
    )
    codebase = forms.CharField(
        label="Codebase",
        required=False,
        max_length=MAX_NAME,
        help_text="Findings are followed from review to review under this name. Empty: they follow the folder.",
        widget=UnfoldAdminTextInputWidget,
    )
    exclude = LinesField(
        label="Leave out", code=True, help_text="Lines as of a .gitignore, such as docs/ or *.min.js. One a line."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        folders = [str(folder) for folder in list_folders()]
        asked = str(self.initial.get("root", ""))
        # A folder deeper down that was reviewed before may be reviewed again; whether it is allowed is asked anyway.
        deeper = [asked] if asked and asked not in folders else []
        self.fields["root"].choices = [("", "Select a folder"), *((each, each) for each in [*folders, *deeper])]
        self.has_folders = bool(folders)
