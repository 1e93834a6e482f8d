"""Where is the API's description? As YAML, as JSON, and as a page to try it on; public, since it holds no secret."""

from __future__ import annotations

import json
from functools import lru_cache

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.utils import OpenApiTypes, extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from audit.viewsets import ApiMixin


@lru_cache(maxsize=2)
def write_document(form: str) -> bytes:
    """The description as text. It depends on the code alone, so it is made once."""
    document = SchemaGenerator().get_schema(request=None, public=True)
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False).encode()
    return OpenApiYamlRenderer().render(document, renderer_context={})


class SchemaJSONView(ApiMixin, APIView):
    """The description of the API as JSON."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(responses={(200, "application/json"): OpenApiTypes.OBJECT}, operation_id="schema_json")
    def get(self, request: Request) -> HttpResponse:
        """This document as JSON."""
        return HttpResponse(write_document("json"), content_type="application/json")


class SchemaView(SchemaJSONView):
    """The description of the API as YAML, or as JSON for who asks for that."""

    @extend_schema(
        responses={(200, "application/yaml"): OpenApiTypes.OBJECT, (200, "application/json"): OpenApiTypes.OBJECT},
        operation_id="schema",
    )
    def get(self, request: Request) -> HttpResponse:
        """This document: YAML, or JSON with `Accept: application/json`."""
        if request.headers.get("Accept", "").startswith("application/json"):
            return super().get(request)
        return HttpResponse(write_document("yaml"), content_type="application/yaml")


class DocumentationView(SpectacularSwaggerSplitView):
    """Swagger UI from the server's own files, without a line of inline script or style."""

    url_name = "schema-json"
    template_name = "api/docs.html"
    content_negotiation_class = DefaultContentNegotiation
    http_method_names = ["get", "head"]
