"""Findings, codebases and prompts over HTTP: listed, decided about, moved on."""

import pytest
from django.contrib.auth.models import Permission

from reviews.models import FindingDecision, TrackedFinding
from tests.factories import api_client, make_user
from tests.rest import expect_problem, names
from tests.review_factories import make_codebase, make_finding, make_issue, make_prompt, make_session

pytestmark = pytest.mark.django_db
FINDINGS = "/api/v1/reviews/findings"
TRIAGE = f"{FINDINGS}/triage"
CODEBASES = "/api/v1/reviews/codebases"
PROMPTS = "/api/v1/reviews/prompts"


@pytest.fixture
def viewer():
    return api_client(make_user("viewer"))


@pytest.fixture
def editor():
    return api_client(make_user("rule editor"))


def test_findings_are_filtered_by_codebase_presence_and_decision(viewer):
    plain = make_finding()
    wanted = make_finding(
        make_codebase("bank"), presence="fixed", triage="wont_fix", severity="low", rule_name="no-exec",
        path="lib/b.py", suppressed=True,
    )  # fmt: skip
    for query in (
        *("codebase=bank", f"codebase_id={wanted.codebase_id}", "presence=fixed", "triage=wont_fix", "severity=low"),
        *("rule_name=no-exec", "path=lib/", f"key={wanted.key}", "search=exec", "suppressed=true"),
    ):
        assert names(viewer.get(f"{FINDINGS}?{query}"), "id") == [wanted.pk], query
    assert names(viewer.get(f"{FINDINGS}?min_severity=medium"), "id") == [plain.pk]
    assert names(viewer.get(f"{FINDINGS}?ordering=-severity"), "id") == [plain.pk, wanted.pk]
    for name in ("presence", "triage", "severity", "codebase_id", "suppressed"):
        expect_problem(viewer.get(f"{FINDINGS}?{name}=perhaps"), 400, "invalid", f"#/{name}")
    expect_problem(viewer.get(f"{FINDINGS}?codebase_id={'9' * 25}"), 400, "invalid", "#/codebase_id")


def test_a_finding_is_shown_with_its_decisions_and_the_code_of_its_last_review(viewer, editor):
    finding = make_finding()
    make_issue(make_session(), finding, snippet="before")
    last = make_issue(make_session(), finding, snippet="after")
    editor.post(TRIAGE, {"ids": [finding.pk], "triage": "acknowledged"})
    editor.post(TRIAGE, {"ids": [finding.pk], "triage": "wont_fix", "reason": "Only used at build time."})
    body = viewer.get(f"{FINDINGS}/{finding.pk}").json()
    assert [each["new_triage"] for each in body["decisions"]] == ["acknowledged", "wont_fix"]
    assert body["decisions"][1]["reason"] == body["triage_reason"] == "Only used at build time."
    assert (body["last_issue"]["id"], body["last_issue"]["snippet"]) == (last.pk, "after")
    assert body["last_issue"]["context"]


def test_the_code_of_a_finding_is_for_those_who_may_see_issues():
    finding = make_finding()
    make_issue(make_session(), finding)
    user = make_user()
    user.user_permissions.add(Permission.objects.get(codename="view_trackedfinding"))
    assert api_client(user).get(f"{FINDINGS}/{finding.pk}").json()["last_issue"] is None


def test_a_finding_whose_reviews_are_deleted_has_no_code(viewer):
    assert viewer.get(f"{FINDINGS}/{make_finding().pk}").json()["last_issue"] is None


def test_a_decision_is_about_all_findings_or_none(editor):
    first, second = make_finding(), make_finding(triage="false_positive", triage_reason="No eval.")
    wish = {"triage": "false_positive", "reason": "No eval."}
    expect_problem(editor.post(TRIAGE, {"ids": [first.pk, 999], **wish}), 400, "invalid", "#/ids/1")
    expect_problem(editor.post(TRIAGE, {"ids": [first.pk, first.pk], **wish}), 400, "invalid", "#/ids/1")
    assert not FindingDecision.objects.exists()
    body = editor.post(TRIAGE, {"ids": [second.pk, first.pk], **wish}).json()
    assert body == {
        "applied": 1,
        "results": [{"id": second.pk, "status": "unchanged"}, {"id": first.pk, "status": "updated"}],
    }
    assert TrackedFinding.objects.get(pk=first.pk).triage == "false_positive"


def test_a_dismissal_needs_a_reason_and_a_known_word(editor):
    finding = make_finding()
    expect_problem(editor.post(TRIAGE, {"ids": [finding.pk], "triage": "wont_fix"}), 400, "invalid", "#/reason")
    expect_problem(editor.post(TRIAGE, {"ids": [finding.pk], "triage": "ignored"}), 400, "invalid", "#/triage")
    expect_problem(editor.post(TRIAGE, {"ids": [], "triage": "open"}), 400, "invalid", "#/ids")
    expect_problem(editor.post(TRIAGE, {"ids": ["1"], "triage": "open"}), 400, "invalid", "#/ids/0")
    expect_problem(editor.post(TRIAGE, {"ids": [1] * 1_001, "triage": "open"}), 400, "invalid", "#/ids")


def test_whoever_may_only_look_decides_nothing(viewer):
    finding = make_finding()
    expect_problem(viewer.post(TRIAGE, {"ids": [finding.pk], "triage": "acknowledged"}), 403, "forbidden")
    assert TrackedFinding.objects.get().triage == "open"


def test_a_codebase_tells_its_last_review_and_what_is_open(viewer):
    session = make_session()
    make_session("bank")
    make_finding()
    make_finding(triage="acknowledged")
    for fields in ({"triage": "wont_fix"}, {"triage": "false_positive"}, {"presence": "fixed"}, {"suppressed": True}):
        make_finding(**fields)
    bank, shop = viewer.get(CODEBASES).json()["results"]
    assert (bank["name"], bank["open_findings"]) == ("bank", 0)
    assert (shop["name"], shop["open_findings"], shop["last_session"]) == ("shop", 2, session.pk)
    assert names(viewer.get(f"{CODEBASES}?name=bank")) == ["bank"]


def test_prompts_are_filtered_and_only_one_of_them_is_shown_with_its_text(viewer):
    session, other = make_session(), make_session("bank")
    make_prompt(session)
    wanted = make_prompt(other, persona="care", status="ready", severity="low")
    for query in (f"session={other.pk}", "codebase=bank", "persona=care", "status=ready", "severity=low"):
        assert names(viewer.get(f"{PROMPTS}?{query}"), "id") == [wanted.pk], query
    expect_problem(viewer.get(f"{PROMPTS}?status=perhaps"), 400, "invalid", "#/status")
    assert "body" not in viewer.get(PROMPTS).json()["results"][0]
    assert viewer.get(f"{PROMPTS}/{wanted.pk}").json()["body"] == wanted.body


def test_a_prompt_is_downloaded_as_the_file_that_it_is(viewer):
    prompt = make_prompt(make_session())
    response = viewer.get(f"{PROMPTS}/{prompt.pk}/file")
    assert response["Content-Type"] == "text/markdown; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="{prompt.name}.prompt.md"'
    assert response.content.decode() == prompt.body


def test_a_prompt_is_moved_on_where_it_can_go(viewer, editor):
    prompt = make_prompt(make_session())
    assert editor.patch(f"{PROMPTS}/{prompt.pk}", {"status": "ready"}).json()["status"] == "ready"
    expect_problem(editor.patch(f"{PROMPTS}/{prompt.pk}", {"status": "perhaps"}), 400, "invalid", "#/status")
    expect_problem(editor.patch(f"{PROMPTS}/{prompt.pk}", {"body": "x"}), 400, "invalid", "#/body", "#/status")
    expect_problem(viewer.patch(f"{PROMPTS}/{prompt.pk}", {"status": "used"}), 403, "forbidden")
    assert editor.patch(f"{PROMPTS}/{prompt.pk}", {"status": "used"}).status_code == 200
    expect_problem(editor.patch(f"{PROMPTS}/{prompt.pk}", {"status": "exported"}), 409, "conflict")
