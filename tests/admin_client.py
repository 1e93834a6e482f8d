"""How does a user of the admin act in a test? Forms are read from the page, changed, and sent."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

REASON = "The quarterly review asked for it."


def sign_in(user: Any) -> Client:
    """A browser in which `user` has signed in."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def address(page: str, item: Any, **query: str) -> str:
    """Address of a page of `item`, an object or a model: change, delete, history, changelist, add."""
    options = item._meta
    keys = [] if page in ("changelist", "add") else [item.pk]
    return reverse(f"admin:{options.app_label}_{options.model_name}_{page}", args=keys)


class _Form(HTMLParser):
    """What a browser would send of the form with the reason."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Any] = {}
        self.select: tuple[str, bool] | None = None
        self.area: str | None = None

    def put(self, name: str, value: str) -> None:
        if name in self.values:
            before = self.values[name]
            self.values[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            self.values[name] = value

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        name = given.get("name")
        if tag == "input" and name and given.get("type") not in ("submit", "button"):
            if given.get("type") in ("checkbox", "radio") and "checked" not in given:
                return
            self.put(name, given.get("value") or ("on" if given.get("type") == "checkbox" else ""))
        elif tag == "select" and name:
            self.select = (name, "multiple" in given)
        elif tag == "option" and self.select and "selected" in given:
            self.put(self.select[0], given.get("value") or "")
        elif tag == "textarea" and name:
            self.area = name
            self.values[name] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self.select = None
        elif tag == "textarea":
            self.area = None

    def handle_data(self, data: str) -> None:
        if self.area is not None:
            self.values[self.area] += data


def read_form(client: Client, url: str) -> dict[str, Any]:
    """What the page at `url` would send if somebody pressed its button, as its widgets hold it."""
    response = client.get(url)
    assert response.status_code == 200, (response.status_code, response.headers.get("Location"))
    content = response.content.decode()
    parser = _Form()
    parser.feed(content[content.index('<div id="content-main"') :])
    sent = {name: value for name, value in parser.values.items() if name != "csrfmiddlewaretoken"}
    form = response.context["adminform"].form
    for name, field in form.fields.items():
        if hasattr(field, "use"):  # drawn by a script; it fills its text area with the stored value
            sent[name] = form[name].value()
        elif name in sent and isinstance(sent[name], str) and sent[name].startswith("\n"):
            sent[name] = sent[name][1:]
    return sent


def submit(client: Client, url: str, reason: str = REASON, **changes: Any) -> Any:
    """Open a form, change it as `changes` say (None: leave the field out), give `reason`, press Save."""
    sent = {**read_form(client, url), "change_reason": reason, **changes}
    return client.post(url, {name: value for name, value in sent.items() if value is not None})


def said(response: Any) -> str:
    """The messages that a request has left for the user."""
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def errors(response: Any) -> dict[str, list[str]]:
    """The errors on a form, by field; what concerns all of it under ``__all__``."""
    assert response.status_code == 200, (response.status_code, said(response))
    return {name: list(found) for name, found in response.context["adminform"].form.errors.items()}


def text(response: Any) -> str:
    """The page without its markup."""

    class Text(HTMLParser):
        words: list[str] = []

        def handle_data(self, data: str) -> None:
            self.words.append(data)

    reader = Text()
    reader.words = []
    reader.feed(response.content.decode())
    return " ".join(" ".join(reader.words).split())
