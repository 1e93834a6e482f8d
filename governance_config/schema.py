"""What does the API say of itself? OpenAPI 3.1 with every status, header and problem."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.openapi import AutoSchema

from audit.bulk import MAX_UPDATES
from audit.governed import GovernedModel
from audit.listing import MAX_KEY
from audit.problems import KINDS, MEDIA_TYPE, Entry, Problem
from audit.viewsets import ReadViewSet, UpdateMixin, WriteViewSet

PREFIX = re.compile(r"^/api/v1/(config/|reviews/)?")
REVIEWS = "/api/v1/reviews/"
NAMED_ACTIONS = (  # named by the route
    *("bulk", "toggle", "assign", "check", "cancel", "compare", "file", "triage", "plan", "apply"),
    *("propose", "approve", "reject", "withdraw", "revoke", "confirm", "backlog", "mark_read"),
)
# A right of its own is asked for.
GUARDED = ("/configuration", "/export", "/export/schema", "/grants", "/metrics", "/changes")
FIGURES = ("bulk", "backlog", "deliveries", "test")  # answers that are about no object alone
TAGS = r'^\s*(\*|(W/)?"[^"]*"(\s*,\s*(W/)?"[^"]*")*)\s*$'
VERBS = {
    "list": "List",
    "retrieve": "Read",
    "create": "Create",
    "update": "Change",
    "partial_update": "Change",
    "destroy": "Delete",
}
OPTIONAL = ("warnings", "permissions")  # shown when there is something to say, or when asked for
HEADERS = {
    "X-Request-ID": "Names this request in the server's logs; yours, if you sent one.",
    "ETag": "The version of the object, for `If-Match`.",
    "X-Revision": "The last revision of this change; of the object, if nothing changed.",
    "Location": "Address of the new object.",
    "Retry-After": "Seconds to wait.",
    "WWW-Authenticate": "`Bearer`.",
    "Allow": "The methods that this route has.",
}
PROBLEM_HEADERS = {401: ["WWW-Authenticate"], 412: ["ETag"], 429: ["Retry-After"], 503: ["Retry-After"]}
MEANINGS = {
    400: "Not valid: `errors` names each place.",
    **{kind.status: f"{kind.title}." for kind in KINDS.values() if kind.status not in (400, 500, 503)},
    503: "Busy or not ready; nothing was written.",
}


def header(name: str) -> dict[str, Any]:
    """The description of a header of an answer."""
    return {"schema": {"type": "string"}, "description": HEADERS[name]}


def parameter(name: str, description: str, *, where: str = "header", **schema: Any) -> dict[str, Any]:
    """The description of an optional parameter."""
    return {
        "name": name,
        "in": where,
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


def describe_warnings() -> dict[str, Any]:
    """The answer to a deletion of which governance rules warn."""
    warnings = {"type": "array", "items": {"type": "string"}}
    schema = {"type": "object", "required": ["warnings"], "properties": {"warnings": warnings}}
    return {"description": "Deleted, with warnings.", "content": {"application/json": {"schema": schema}}}


class GovernanceSchema(AutoSchema):
    """Adds to each operation what all of them have in common."""

    def get_tags(self) -> list[str]:
        if not self.path.startswith("/api/"):
            return ["health"]
        if self.path.startswith(REVIEWS):
            return ["reviews"]
        first = PREFIX.sub("", self.path).split("/")[0]
        return [{"schema.json": "schema"}.get(first, first)]

    def get_operation_id(self) -> str:
        steps = [step for step in PREFIX.sub("", self.path).split("/") if step and not step.startswith("{")]
        name = "_".join(steps).replace("-", "_").replace(".", "_")
        if isinstance(self.view, ReadViewSet) and self.view.action in NAMED_ACTIONS:
            return name
        verb = "list" if self.method == "GET" and self._is_list_view() else self.method_mapping[self.method.lower()]
        return f"{name}_{verb}"

    def get_summary(self) -> str | None:
        verb = VERBS.get(getattr(self.view, "action", None) or "")
        return f"{verb} {self._find_noun()}" if verb else None

    def _find_noun(self) -> str:
        if hasattr(self.view, "nouns"):
            return self.view.nouns[0] if self._is_list_view() else self.view.nouns[1]
        meta = self.view.queryset.model._meta
        name = meta.verbose_name_plural if self._is_list_view() else f"one {meta.verbose_name}"
        return str(name)

    def get_request_serializer(self) -> Any:
        serializer = super().get_request_serializer()
        if self.method == "PUT" and isinstance(self.view, UpdateMixin):
            serializer.partial = True  # PUT takes the fields to change, like PATCH
        return serializer

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        parameters = [*operation.get("parameters", []), *self._own_parameters()]
        for each in parameters:
            self._describe_key(each)
        if parameters:
            operation["parameters"] = parameters
        if self.path.endswith("/configuration"):
            operation["responses"]["304"] = {"description": "Nothing has changed."}
        if self.method == "DELETE" and self._is_write and self._is_governed:
            operation["responses"]["200"] = describe_warnings()
        for status in self._list_problems(operation):
            operation["responses"][str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
        for status, response in operation["responses"].items():
            if "$ref" not in response:
                names = ["X-Request-ID", *self._own_headers(int(status))]
                response.setdefault("headers", {}).update({name: header(name) for name in names})
        return operation

    @property
    def _is_governed(self) -> bool:
        queryset = getattr(self.view, "queryset", None)
        return queryset is not None and issubclass(queryset.model, GovernedModel)

    @property
    def _is_write(self) -> bool:
        if getattr(self.view, "action", "") == "check":
            return False  # it looks at something, and changes nothing that is governed
        return self.method != "GET" and (isinstance(self.view, WriteViewSet) or hasattr(self.view, "nouns"))

    @property
    def _names_object(self) -> bool:
        return "{" in self.path

    def _own_parameters(self) -> list[dict[str, Any]]:
        found = []
        if (self._is_write and self._is_governed) or self.path.endswith("/rollback"):
            why = "In an emergency: why governance rules are passed over."
            found.append(parameter("X-Break-Glass", why, maxLength=2000))
        if self._is_write:
            found.append(parameter("X-Change-Reason", "Why; stands in the journal.", maxLength=2000))
            if self._is_governed and (self._names_object or self.view.action == "assign"):
                found.append(parameter("If-Match", "Only if the object has this `ETag` still; else 412.", pattern=TAGS))
        if self.method == "DELETE" and isinstance(self.view, WriteViewSet):
            found.append(parameter("change_reason", "Why; stands in the journal.", where="query", maxLength=2000))
        if self.method == "GET" and getattr(self.view, "object_actions", ()):
            why = "Also tell, for each object, what you may do with it."
            found.append({**parameter("permissions", why, where="query"), "schema": {"type": "boolean"}})
        if self.path.endswith("/configuration"):
            found.append(parameter("If-None-Match", "304 if the configuration still has this `ETag`."))
        return found

    def _describe_key(self, described: dict[str, Any]) -> None:
        if described["in"] != "path":
            return
        if described["name"] in ("id", "revision", "session_id"):
            described["schema"] = {"type": "integer", "minimum": 0, "maximum": MAX_KEY}
        else:
            described["schema"] = {"type": "string", "pattern": f"^{self.view.lookup_value_regex}$"}

    def _list_problems(self, operation: dict[str, Any]) -> list[int]:
        public = not self.view.get_authenticators()
        statuses = {503} if "health" not in self.get_tags() or self.path == "/readyz" else set()
        statuses |= {400} if "health" in self.get_tags() else {400, 429}
        if not public or "auth/token" in self.path:
            statuses |= {401}
        if isinstance(self.view, ReadViewSet) or self.path.endswith(GUARDED):
            statuses |= {403}
        if self.path.endswith("/configuration"):
            statuses |= {409, 410}
        if self._names_object:
            statuses |= {404}
        if "requestBody" in operation:
            statuses |= {413, 415}
        if self.method != "GET" and not public:
            statuses |= {403}  # also a session without its CSRF token
        if self._is_write and self._is_governed:
            statuses |= {409} if self.view.action == "create" else {409, 412}
        if self.path.endswith(("/rollback", "/import")) or getattr(self.view, "action", "") in getattr(
            self.view, "conflicts", ()
        ):
            statuses |= {409}
        return sorted(statuses)

    def _own_headers(self, status: int) -> list[str]:
        names = []
        alone = not self._is_list_view() and getattr(self.view, "action", None) not in (*FIGURES, "destroy")
        if self._is_governed and status in (200, 201) and alone:
            names.append("ETag")
        if self.path.endswith("/configuration"):
            names.append("ETag")
        if self._is_write and status < 300:
            names.append("X-Revision")
        if status == 201 and isinstance(self.view, ReadViewSet):
            names.append("Location")
        return names


def complete_document(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Last step of the generation: the shape of problems, and which fields are not always there."""
    components = result["components"]
    for name, schema in components["schemas"].items():
        if name.endswith("Request"):
            schema["additionalProperties"] = False  # what only reads is accepted all the same, and ignored
        elif "properties" in schema:  # an answer has all of its fields
            schema["required"] = [field for field in schema["properties"] if field not in OPTIONAL]
    updates = components["schemas"]["AnalysisRuleBulkRequest"]["properties"]["updates"]
    updates |= {"minItems": 1, "maxItems": MAX_UPDATES}
    components["schemas"]["Problem"] = problem_schema()
    components["responses"] = {
        f"Problem{status}": {
            "description": meaning,
            "headers": {name: header(name) for name in ["X-Request-ID", *PROBLEM_HEADERS.get(status, [])]},
            "content": {
                MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": problem_example(status)}
            },
        }
        for status, meaning in sorted(MEANINGS.items())
    }
    return result


def problem_example(status: int) -> dict[str, Any]:
    """What a problem of this status looks like."""
    slug = next(slug for slug, kind in KINDS.items() if kind.status == status)
    example = Problem(slug, KINDS[slug].advice).document("/api/v1/config/analysis-rules/1")
    if slug == "invalid":
        example["errors"] = [Entry("/severity", "'bad' is not known.", "invalid_choice").document()]
    return example


def problem_schema() -> dict[str, Any]:
    """RFC 9457, with a list of what is wrong where."""
    text = {"type": "string"}
    entry = {
        "type": "object",
        "required": ["pointer", "detail", "code"],
        "properties": {
            "pointer": {**text, "description": "JSON pointer into the body, or to a query parameter: `#/name`."},
            "detail": text,
            "code": text,
            "line": {"type": "integer", "description": "In a document that was sent as text: the line."},
        },
    }
    return {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {**text, "format": "uri-reference", "enum": [f"/problems/{slug}" for slug in KINDS]},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": {**text, "format": "uri-reference"},
            "errors": {"type": "array", "items": entry},
        },
    }
