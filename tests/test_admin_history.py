"""Can somebody read in the admin what happened, and why?"""

import pytest
from django.utils import timezone

from audit import timeline
from audit.admin import COUNTED, CappedPaginator, distinct_values
from audit.changes import change_set
from audit.diffs import compare
from audit.models import ConfigurationAuditLog
from rules.models import AnalysisRule
from tests.admin_client import REASON, address, sign_in, submit, text
from tests.factories import make_override, make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def auditor():
    return sign_in(make_user("auditor"))


def test_the_history_of_a_rule_tells_who_when_why_from_where_and_what(auditor):
    rule = make_rule(severity="high", description="First line.\nSecond line.\nThird line.")
    editor = sign_in(make_user("rule editor", username="ada"))
    submit(editor, address("change", rule), severity="low", description="First line.\nAnother line.\nThird line.")
    page = auditor.get(address("history", rule))
    found = text(page)
    row = ConfigurationAuditLog.objects.first()
    assert "Rule updated by ada" in found
    assert REASON in found
    assert "from admin at 127.0.0.1" in found
    assert "high → low" in found
    assert "- Second line. + Another line." in found
    assert f"revision {row.revision}" in found
    assert f"?batch={row.batch}" in page.content.decode()
    assert found.index("Rule updated") < found.index("Rule created")


def test_a_reader_without_the_journal_sees_the_history_without_links_into_it():
    rule = make_rule()
    page = sign_in(make_user("viewer")).get(address("history", rule))
    assert "Rule created" in text(page)
    assert "configurationauditlog" not in page.content.decode()


def test_a_long_history_is_turned_by_revision(auditor, monkeypatch):
    monkeypatch.setattr(timeline, "ENTRIES", 3)
    rule = make_rule(title="0")
    for number in range(1, 5):
        rule.title = str(number)
        rule.save()
    first = auditor.get(address("history", rule))
    assert [entry.row.new_config["title"] for entry in first.context["timeline"].entries] == ["4", "3", "2"]
    second = auditor.get(address("history", rule), {"before": first.context["timeline"].older})
    assert [entry.row.new_config["title"] for entry in second.context["timeline"].entries] == ["1", "0"]
    assert second.context["timeline"].older is None


def test_the_history_of_a_rule_is_not_that_of_another(auditor):
    one, other = make_rule(title="One"), make_rule(title="Other")
    assert {entry.row.entity_id for entry in auditor.get(address("history", one)).context["timeline"].entries} == {
        str(one.pk)
    }
    assert other.name not in text(auditor.get(address("history", one)))


def test_markup_in_a_changed_text_is_shown_and_not_run(auditor):
    rule = make_rule(title="<script>alert(1)</script>", description="a\n<img src=x onerror=alert(2)>")
    for page in (auditor.get(address("history", rule)), auditor.get(address("changelist", rule))):
        assert "<script>alert(1)" not in page.content.decode()
        assert "<img src=x" not in page.content.decode()


def test_the_journal_is_searched_and_filtered(auditor):
    rule = make_rule(name="find-me")
    make_persona("testing", rule_types=["testing"])
    with change_set(reason="because of the outage"):
        rule.severity = "low"
        rule.save()
    url = address("changelist", ConfigurationAuditLog)

    def shown(**query):
        page = auditor.get(url, query)
        assert page.status_code == 200, page.get("Location")
        return [row.change_type for row in page.context["cl"].result_list]

    assert shown(q="outage") == ["rule_updated"]
    assert set(shown(q="find-me")) == {"rule_updated", "rule_created"}
    revision = ConfigurationAuditLog.objects.get(change_type="rule_updated").revision
    assert "rule_updated" in shown(q=str(revision))
    assert shown(change_type="persona_created") == ["persona_created"]
    assert set(shown(entity_type="persona")) == {"persona_created"}
    assert shown(source="api") == []
    assert "rule_created" in shown(changed_by="system")
    batch = ConfigurationAuditLog.objects.get(change_type="rule_updated").batch
    assert shown(batch=str(batch)) == ["rule_updated"]
    assert shown(created_at_from="2000-01-01", created_at_to="2000-01-02") == []
    assert "rule_updated" in shown(created_at_from=f"{timezone.now():%Y-%m-%d}", created_at_to="2999-01-01")
    assert auditor.get(url, {"created_at_from": "never"}).status_code == 302


def test_a_batch_that_is_none_does_not_break_the_journal(auditor):
    assert auditor.get(address("changelist", ConfigurationAuditLog), {"batch": "x"}).status_code == 302


def test_a_change_has_a_page_with_its_differences_and_its_hash(auditor):
    rule = make_rule(severity="high")
    rule.severity = "low"
    rule.save()
    row = ConfigurationAuditLog.objects.first()
    page = auditor.get(address("change", row))
    assert "high → low" in text(page)
    assert row.row_hash in text(page)
    assert address("change", rule) in page.content.decode()


def test_a_change_of_what_is_gone_or_not_to_be_seen_has_no_link(auditor):
    rule = make_rule()
    url = address("change", rule)
    rule.delete()
    assert url not in auditor.get(address("change", ConfigurationAuditLog.objects.first())).content.decode()
    make_user(username="somebody")
    row = ConfigurationAuditLog.objects.get(change_type="user_created", entity_name="somebody")
    assert "/auth/user/" not in auditor.get(address("change", row)).content.decode().split('id="content"')[1]


def test_a_revision_that_does_not_exist_leads_back(auditor):
    row = ConfigurationAuditLog(revision=999_999)
    assert auditor.get(address("change", row)).status_code == 302


def test_the_journal_counts_no_further_than_it_must(django_assert_max_num_queries):
    paginator, number = CappedPaginator(ConfigurationAuditLog.objects.all(), 50), ConfigurationAuditLog.objects.count()
    with django_assert_max_num_queries(1) as queries:
        assert paginator.count == number
    assert f"LIMIT {COUNTED}" in queries.captured_queries[0]["sql"]


def test_the_values_of_a_column_are_found_with_one_query(django_assert_num_queries):
    make_rule()
    with django_assert_num_queries(1):
        found = distinct_values("change_type")
    assert found == sorted(set(ConfigurationAuditLog.objects.values_list("change_type", flat=True)))


def test_an_override_shows_what_it_changes_and_when_it_ends(auditor):
    rule = make_rule(severity="high")
    override = make_override(rule.name, original_config=rule.document(), override_config={"severity": "low"})
    found = text(auditor.get(address("change", override)))
    assert "severity high low the same" in found
    assert "in 29 days" in found
    assert "proposed" in found


def test_documents_are_compared_entry_by_entry():
    old = {
        "title": "A",
        "configuration": {"pattern": "a", "unless": "x"},
        "tags": ["one"],
        "text": "1\n2\n3\n4\n5\n6\n7",
    }
    new = {"title": "A", "configuration": {"pattern": "b"}, "tags": ["one", "two"], "text": "1\n2\n3\n4\n5\n6\n8"}
    found = {item.path: item for item in compare(old, new)}
    assert set(found) == {"configuration.pattern", "configuration.unless", "tags", "text"}
    assert (found["configuration.unless"].old, found["configuration.unless"].new) == ("x", None)
    assert [(line.sign, line.text) for line in found["text"].lines] == [
        ("…", "4 unchanged lines"),
        ("", "5"),
        ("", "6"),
        ("-", "7"),
        ("+", "8"),
    ]


def test_of_a_created_object_only_what_says_something_is_listed():
    assert [item.path for item in compare(None, {"a": 1, "b": "", "c": [], "d": {"e": None, "f": "x"}})] == ["a", "d.f"]


def test_the_editor_of_a_rule_finds_its_history_from_the_form():
    rule = make_rule()
    page = sign_in(make_user("rule editor")).get(address("change", AnalysisRule.objects.get(pk=rule.pk)))
    assert address("history", rule) in page.content.decode()
