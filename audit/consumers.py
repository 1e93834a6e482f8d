"""How do clients hear of changes over a WebSocket? `/ws/v1/config/changes`; `docs/api.md` describes the protocol."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.http.request import split_domain_port, validate_host

from audit.audience import UNAUTHENTICATED, Credential, Ended, authenticate_token, describe_session
from audit.listing import MAX_KEY
from audit.log import naming
from audit.metrics import subscribing
from audit.middleware import REQUEST_ID
from audit.relay import ensure_relay
from audit.subscriptions import Subscription

logger = logging.getLogger(__name__)
MALFORMED, FAILED, CROWDED = 4400, 1011, 1013  # close codes
MAX_MESSAGE = 16_384  # characters
MAX_TYPES = 100  # of a filter
AUTHENTICATE_WITHIN = 10.0  # seconds for the first message of somebody who has shown nothing
GRACE = 0.5  # seconds after `hello` in which a client may say where to resume before anything is sent
MAX_STRANGERS = 200  # sockets in each process of which it is not known yet whose they are
WAITING = 8  # requests of one client


@dataclass(frozen=True)
class Resume:
    """What a client asks for."""

    epoch: str
    since: int
    filter_types: frozenset[str] = frozenset()


def read_message(text: str | None) -> Resume | str:
    """A client's message: a `Resume`, or the token of an `authenticate`. Raises `Ended` saying what is wrong."""
    if text is None or len(text) > MAX_MESSAGE:
        raise Ended(MALFORMED, f"Messages are JSON texts of {MAX_MESSAGE:,} characters at most.")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Ended(MALFORMED, "The message is not JSON.") from error
    kind = message.get("type") if isinstance(message, dict) else None
    if kind == "authenticate" and isinstance(message.get("token"), str):
        return message["token"]
    if kind == "resume":
        return read_resume(message.get("epoch"), message.get("since"), message.get("filter_types", []))
    raise Ended(MALFORMED, "Known: resume {epoch, since, filter_types?}, authenticate {token}.")


def read_resume(epoch: Any, since: Any, filter_types: Any) -> Resume:
    """A checked `Resume`. Raises `Ended` naming the field."""
    if not isinstance(epoch, str):
        raise Ended(MALFORMED, "resume: epoch is the text that hello gave.")
    if type(since) is not int or not 0 <= since <= MAX_KEY:
        raise Ended(MALFORMED, "resume: since is a revision, an integer from 0.")
    if not isinstance(filter_types, list) or not all(isinstance(name, str) for name in filter_types):
        raise Ended(MALFORMED, "resume: filter_types is a list of change types.")
    if len(filter_types) > MAX_TYPES:
        raise Ended(MALFORMED, f"resume: filter_types names {MAX_TYPES} at most.")
    return Resume(epoch, since, frozenset(filter_types))


class ChangesConsumer(AsyncWebsocketConsumer):
    """One socket."""

    strangers: ClassVar[int] = 0

    async def connect(self) -> None:
        """Accept first: a refusal before that reaches no browser script."""
        await self.accept()
        self._requests: asyncio.Queue[Resume | str | Ended] = asyncio.Queue(WAITING)
        self._conversation = asyncio.create_task(self._converse_named())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Hand a message to the conversation; a client that talks too much has to wait."""
        try:
            request: Resume | str | Ended = read_message(text_data)
        except Ended as ended:
            request = ended
        if not self._conversation.done():
            await self._requests.put(request)

    async def disconnect(self, code: int) -> None:
        """The client has gone."""
        self._conversation.cancel()
        with suppress(asyncio.CancelledError):
            await self._conversation

    async def _converse_named(self) -> None:
        """Lines of the log say which socket it was, and whose."""
        self._username = ""
        with naming(read_request_id(self.scope), lambda: self._username):
            await self._converse()

    async def _converse(self) -> None:
        try:
            relay = await ensure_relay()
            credential = await self._identify()
            self._username = credential.username
            subscription = await Subscription.open(relay, credential)
            with subscribing("websocket"):
                await self._serve(subscription)
        except Ended as ended:
            await self._end(ended.code, str(ended))
        except OSError:
            return  # the client has gone in the middle of a message
        except Exception:
            logger.exception("a WebSocket ended by a mistake of the server")
            await self._end(FAILED, "The server made a mistake.")
        finally:
            while not self._requests.empty():  # whoever waits to put one more goes on
                self._requests.get_nowait()

    async def _end(self, code: int, reason: str) -> None:
        with suppress(Exception):
            await self.close(code, reason[:120])

    async def _identify(self) -> Credential:
        token = read_bearer(self.scope)
        if token is not None:
            return await database_sync_to_async(authenticate_token)(token)
        user = self.scope.get("user")
        if user is not None and user.is_authenticated:
            return describe_session(user, self.scope["session"])
        return await database_sync_to_async(authenticate_token)(await self._ask_stranger())

    async def _ask_stranger(self) -> str:
        kind = type(self)
        if kind.strangers >= MAX_STRANGERS:
            raise Ended(CROWDED, "Too many clients have not authenticated themselves: try again.")
        kind.strangers += 1
        try:
            async with asyncio.timeout(AUTHENTICATE_WITHIN):
                request = await self._requests.get()
        except TimeoutError as error:
            raise Ended(UNAUTHENTICATED, "Authenticate within ten seconds.") from error
        finally:
            kind.strangers -= 1
        if isinstance(request, Ended):
            raise request
        if not isinstance(request, str):
            raise Ended(UNAUTHENTICATED, "Authenticate first.")
        return request

    async def _serve(self, subscription: Subscription) -> None:
        """Say `hello`, then what follows; each `resume` begins anew from where it says."""
        await self.send((await subscription.next())[0].text)
        request = None
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                request = await self._requests.get()
        talked = False
        while True:
            if request is not None:
                await self._resume(subscription, request, greet=talked)
            talked = True
            request = await self._stream_until_asked(subscription)

    async def _resume(self, subscription: Subscription, request: Resume | str | Ended, *, greet: bool) -> None:
        if isinstance(request, Ended):
            raise request
        if isinstance(request, str):
            return  # authenticated already
        await subscription.resume(request.epoch, request.since, request.filter_types, greet=greet)

    async def _stream_until_asked(self, subscription: Subscription) -> Resume | str | Ended:
        streaming = asyncio.create_task(self._stream(subscription))
        asking = asyncio.create_task(self._requests.get())
        try:
            await asyncio.wait({streaming, asking}, return_when=asyncio.FIRST_COMPLETED)
            if streaming.done():
                streaming.result()
            return asking.result()
        finally:
            for task in (streaming, asking):
                task.cancel()
            await asyncio.gather(streaming, asking, return_exceptions=True)

    async def _stream(self, subscription: Subscription) -> None:
        """Send until it ends. Each `send` waits until the client has taken what came before."""
        while True:
            for message in await subscription.next():
                await self.send(message.text)


def read_bearer(scope: dict[str, Any]) -> str | None:
    """The token of the Authorization header; it is not taken from the address, which stands in logs."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return None


def read_request_id(scope: dict[str, Any]) -> str:
    """The id that the client, or a proxy, gave to the handshake; else a new one."""
    sent = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return sent if REQUEST_ID.match(sent) else uuid.uuid4().hex


def is_from_here(scope: dict[str, Any]) -> bool:
    """Whether no page of another site opened this socket in somebody's browser, with his cookie.

    The host must be one of ours, and so must be the origin, which browsers always send: the same host, or a trusted
    origin. Programs send none; without it a cookie does not count.
    """
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host, origin = headers.get(b"host", ""), headers.get(b"origin")
    allowed = settings.ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]"]
    if not validate_host(split_domain_port(host)[0], allowed):
        return False
    if origin is None or origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    parts = urlsplit(origin)
    secure = parts.scheme == "https" or not settings.SESSION_COOKIE_SECURE
    return parts.netloc.lower() == host.lower() and parts.scheme in ("http", "https") and secure


Application = Callable[..., Awaitable[None]]


class Door:
    """Refuses sockets that pages of other sites open; a client without an origin is no browser and has no cookie."""

    def __init__(self, application: Application) -> None:
        self._known = AuthMiddlewareStack(application)
        self._stranger = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Hand the socket on, or refuse the handshake with 403."""
        if not is_from_here(scope):
            await receive()
            await send({"type": "websocket.close", "code": 4403})
            return
        from_browser = any(name == b"origin" for name, _ in scope["headers"])
        has_token = read_bearer(scope) is not None
        await (self._known if from_browser and not has_token else self._stranger)(scope, receive, send)


async def refuse_route(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """There is no such socket."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})
