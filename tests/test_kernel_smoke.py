import pytest

from audit.models import ConfigurationAuditLog
from tests.factories import make_persona, make_rule

pytestmark = pytest.mark.django_db


def test_a_created_rule_gets_the_persona_of_its_type():
    make_persona("security")
    rule = make_rule()
    assert [item.persona_id for item in rule.assignments.all()] == ["security"]
    assert ConfigurationAuditLog.objects.filter(change_type="rule_created").count() == 1
