"""How is the text of a rule shown? With its code as code."""

from __future__ import annotations

from django import template

from reviews.figures import mark_code

register = template.Library()
register.filter("code", mark_code)
