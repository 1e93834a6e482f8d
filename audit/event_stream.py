"""How do clients without WebSockets hear of changes? The same stream as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

from django.db import connection
from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema
from knox.models import AuthToken
from rest_framework.request import Request
from rest_framework.views import APIView

from audit.audience import FORBIDDEN, Credential, Ended, describe_session, describe_token, load_rights
from audit.listing import MAX_KEY
from audit.metrics import subscribing
from audit.problems import Entry, Problem, invalid
from audit.relay import ensure_relay
from audit.stream import Position
from audit.subscriptions import Message, Subscription
from audit.viewsets import ApiMixin

RETRY = 1_000  # milliseconds after which a browser connects again
PARAMETERS = [
    OpenApiParameter("filter_types", str, description="Only these `change_type`s, separated by commas."),
    OpenApiParameter(
        "Last-Event-ID",
        str,
        OpenApiParameter.HEADER,
        description="The `id` of the last event that was read, `epoch-revision`: what followed is repeated.",
    ),
]


class ChangeStreamView(ApiMixin, APIView):
    """Changes as they happen."""

    http_method_names = ["get"]
    query_parameters: ClassVar[dict[str, list[str]]] = {"get": ["filter_types"]}

    @extend_schema(
        responses={(200, "text/event-stream"): OpenApiTypes.STR}, operation_id="changes_stream", parameters=PARAMETERS
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Hear of changes as server-sent events `hello`, `change`, `reset`, `end`, until you leave.

        The same messages as on the WebSocket `/ws/v1/config/changes`, each only if you may see its object.
        """
        after = read_event_id(request.headers.get("Last-Event-ID", ""))
        filter_types = frozenset(filter(None, request.query_params.get("filter_types", "").split(",")))
        credential = describe_caller(request)
        try:
            load_rights(credential)
        except Ended as ended:
            raise Problem("forbidden" if ended.code == FORBIDDEN else "unauthenticated", str(ended)) from ended
        if not connection.in_atomic_block:
            connection.close()  # a stream lasts for hours, and asks the database no more from here
        return StreamingHttpResponse(
            write_events(credential, after, filter_types),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def describe_caller(request: Request) -> Credential:
    """What the caller has shown: the token of this request, or his session."""
    if isinstance(request.auth, AuthToken):
        return describe_token(request.user, request.auth)
    return describe_session(request.user, request._request.session)


def read_event_id(text: str) -> Position | None:
    """The place that `Last-Event-ID` names, or None. Raises `Problem` if it is no id of ours."""
    if not text:
        return None
    epoch, _, number = text.rpartition("-")
    if not epoch or not number.isascii() or not number.isdecimal() or int(number) > MAX_KEY:
        raise invalid(Entry("/Last-Event-ID", "Last-Event-ID is the id of an event: epoch-revision.", "invalid"))
    return Position(epoch, int(number))


async def write_events(
    credential: Credential, after: Position | None, filter_types: frozenset[str]
) -> AsyncIterator[str]:
    """The stream, event by event; the server takes the next one when the client has taken the last."""
    try:
        subscription = await Subscription.open(await ensure_relay(), credential)
        subscription.filter_types = filter_types
        if after is not None:
            await subscription.resume(after.epoch, after.revision, filter_types, greet=True)
        yield f"retry: {RETRY}\n\n"
        with subscribing("sse"):
            while True:
                for message in await subscription.next():
                    yield write_event(message)
    except Ended as ended:
        yield f'event: end\ndata: {{"type":"end","code":{ended.code}}}\n\n'


def write_event(message: Message) -> str:
    """One event. A heartbeat is a comment that moves the client's place on, past what he may not see."""
    identity = f"id: {message.epoch}-{message.revision}\n"
    if message.kind == "ping":
        return f": ping\n{identity}\n"
    return f"{identity}event: {message.kind}\ndata: {message.text}\n\n"
