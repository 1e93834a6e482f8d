"""The reviewer's working place in the admin: start, watch, judge, decide, compare."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from reviews.codebases import make_key
from reviews.models import Codebase, CopilotPrompt, DiscoveredIssue, FindingDecision, ReviewSession, TrackedFinding
from tests.admin_client import address, said, sign_in, text
from tests.factories import make_rule, make_user
from tests.review_factories import make_finding, make_issue, make_prompt, make_session

pytestmark = pytest.mark.django_db
START = reverse("admin:reviews_reviewsession_start")


@pytest.fixture
def editor():
    return sign_in(make_user("rule editor"))


@pytest.fixture
def viewer():
    return sign_in(make_user("viewer"))


@pytest.fixture
def root(settings, tmp_path):
    """An allowed root with a folder in it."""
    (tmp_path / "shop").mkdir()
    settings.REVIEW_ROOTS = [tmp_path]
    return tmp_path


def issues_of(session, **query):
    parameters = "&".join(f"{name}={value}" for name, value in {"session__id__exact": session.pk, **query}.items())
    return f"{address('changelist', DiscoveredIssue)}?{parameters}"


def shown_places(response):
    """The findings that a list shows, in their order."""
    return re.findall(r'class="finding-place">([^<]+)<', response.content.decode())


def test_a_review_is_started_from_a_form_of_allowed_folders(editor, root):
    assert START in editor.get(address("changelist", ReviewSession)).content.decode()
    page = editor.get(START).content.decode()
    assert f'value="{root}/shop"' in page
    response = editor.post(START, {"root": str(root / "shop"), "codebase": "The shop", "exclude": "docs/\n\n*.min.js"})
    session = ReviewSession.objects.get()
    assert response["Location"] == address("change", session)
    assert (session.status, session.codebase, session.exclude) == ("queued", "The shop", ["docs/", "*.min.js"])


def test_a_folder_elsewhere_cannot_be_started(editor, root):
    outside = editor.post(START, {"root": "/etc"})
    asked_for = editor.post(f"{START}?root=/etc", {"root": "/etc"})
    for response in (outside, asked_for):
        assert response.status_code == 200
        assert response.context["form"].errors["root"]
    assert not ReviewSession.objects.exists()


def test_the_form_is_filled_with_the_review_that_is_run_again(editor, root):
    session = make_session(root=str(root / "shop"), exclude=["docs/"])
    page = editor.get(address("change", session)).content.decode()
    again = re.search(rf'href="({START}\?[^"]+)"', page)[1].replace("&amp;", "&")
    form = editor.get(again).context["form"]
    assert (form["root"].value(), form["codebase"].value(), form["exclude"].value()) == (
        *(str(root / "shop"), None, "docs/"),
    )


def test_a_name_that_somebody_gave_is_given_again(editor, root):
    named = Codebase.objects.create(key=make_key(root / "shop", "The shop"), name="The shop", root=str(root / "shop"))
    session = make_session("The shop", root=str(root / "shop"), tracked_codebase=named)
    assert "codebase=The+shop" in editor.get(address("change", session)).content.decode()


def test_a_folder_that_is_being_reviewed_is_named(editor, root):
    editor.post(START, {"root": str(root / "shop")})
    response = editor.post(START, {"root": str(root / "shop")})
    assert "Queued already" in text(response)
    assert ReviewSession.objects.count() == 1


def test_without_any_folder_the_form_says_where_they_belong(editor, settings, tmp_path):
    settings.REVIEW_ROOTS = [tmp_path / "missing"]
    assert f"{tmp_path}/missing" in text(editor.get(START))


def test_what_a_user_may_not_do_is_not_offered(viewer):
    session, running = make_session(), make_session(status="running")
    finding = make_finding()
    issue, prompt = make_issue(session, finding), make_prompt(session)
    for url in (address("changelist", ReviewSession), address("change", session), address("change", running)):
        page = viewer.get(url).content.decode()
        assert START not in page and "/cancel/" not in page and "/delete/" not in page
    for item in (issue, finding):
        assert 'name="triage"' not in viewer.get(address("change", item)).content.decode()
    assert 'name="status"' not in viewer.get(address("change", prompt)).content.decode()
    for model in (DiscoveredIssue, TrackedFinding, CopilotPrompt):
        assert 'name="action"' not in viewer.get(address("changelist", model)).content.decode()


def test_a_running_review_is_watched_and_cancelled(editor):
    session = make_session(status="running", files_done=3, files_total=12, heartbeat_at=timezone.now())
    response = editor.get(address("change", session))
    page = response.content.decode()
    assert f'data-review="/api/v1/reviews/sessions/{session.pk}"' in page and 'width="25"' in page
    assert "reviews/progress.js" in page and "3 of 12 files" in text(response)
    editor.post(reverse("admin:reviews_reviewsession_cancel", args=[session.pk]))
    session.refresh_from_db()
    assert session.cancel_requested
    assert "It is being stopped" in text(editor.get(address("change", session)))


def test_a_review_that_waits_says_how_a_worker_is_started(editor):
    session = make_session(status="queued", started_at=timezone.now() - timedelta(seconds=11))
    for url in (address("change", session), address("changelist", ReviewSession)):
        assert "manage.py db_worker" in text(editor.get(url))


def test_a_lost_review_is_shown_as_failed(editor):
    session = make_session(status="running", heartbeat_at=timezone.now() - timedelta(seconds=61))
    assert "The worker was lost" in text(editor.get(address("change", session)))
    session.refresh_from_db()
    assert session.status == "failed"


def test_a_review_at_work_is_not_deleted():
    administrator = sign_in(make_user("administrator"))
    session = make_session(status="running")
    assert administrator.post(address("delete", session), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [str(session.pk)], "post": "yes"}
    administrator.post(address("changelist", ReviewSession), chosen)
    assert ReviewSession.objects.filter(pk=session.pk).exists()


def test_a_review_shows_what_is_new_since_the_last_one(viewer):
    before = make_session()
    session = make_session(
        failures=[{"plugin": "ruff", "rule": None, "path": "x.py", "message": "It was too slow."}],
        files_skipped={"binary": 4},
        plugin_runs={"ruff": {"seconds": 2.5, "files": 3}},
    )
    old, new = make_finding(path="old.py"), make_finding(path="new.py", severity="low")
    make_issue(before, old)
    make_issue(session, old, state="existing")
    make_issue(session, new)
    response = viewer.get(address("change", session))
    assert shown_places(response) == ["new.py:3"]
    shown = text(response)
    for words in ("1 new", "1 fixed", f"review {before.pk}", "It was too slow.", "4 binary", "2.50 s"):
        assert words in shown, words
    assert reverse("admin:reviews_reviewsession_compare", args=[session.pk]) in response.content.decode()
    assert response.content.decode().count('class="trend-column"') == 2


def test_the_findings_of_a_review_are_listed_worst_first_with_their_code(viewer):
    session = make_session()
    make_issue(session, path="b.py", severity="low")
    make_issue(session, path="a.py", severity="critical")
    make_issue(make_session(), path="elsewhere.py")
    response = viewer.get(issues_of(session))
    assert shown_places(response) == ["a.py:3", "b.py:3"]
    marked = re.findall(r'code-marked"><span class="code-number">3</span>([^<]+)\n', response.content.decode())
    assert marked == ["    eval(text)"] * 2


def test_the_findings_of_a_review_are_filtered(viewer):
    session = make_session(counts={"by_persona": {"care": 1, "security": 1}})
    make_issue(session, make_finding(), path="a.py", plugin="ruff", state="existing", rule_name="other")
    wanted = {"severity": "low", "rule_type": "style", "state": "reappeared", "personas": ["care"], "suppressed": True}
    make_issue(session, make_finding(triage="wont_fix"), **wanted, path="lib/b.py")
    for name, value in {
        "severity__exact": "low",
        "state__exact": "reappeared",
        "finding__triage__exact": "wont_fix",
        "rule_type__exact": "style",
        "rule_name": "no-eval",
        "plugin": "patterns",
        "persona": "care",
        "path": "lib/",
        "suppressed__exact": "1",
        "q": "lib",
    }.items():
        assert shown_places(viewer.get(issues_of(session, **{name: value}))) == ["lib/b.py:3"], name
    page = viewer.get(issues_of(session)).content.decode()
    assert "no-eval (1)" in page and "care (1)" in page and "ruff (1)" in page


def test_a_finding_is_shown_with_its_rule_and_what_was_decided(viewer):
    rule = make_rule(name="no-eval", remediation="Use `ast.literal_eval`.")
    finding = make_finding(triage="wont_fix")
    finding.decisions.create(old_triage="open", new_triage="wont_fix", reason="Never with input.", decided_by="ada")
    issue = make_issue(make_session(), finding)
    for item in (issue, finding):
        response = viewer.get(address("change", item))
        page = response.content.decode()
        assert "<code>ast.literal_eval</code>" in page and address("change", rule) in page
        assert "code-marked" in page and "Never with input." in text(response)
    assert "<script>" not in viewer.get(address("change", issue)).content.decode().split('id="content"')[1]


def test_the_code_of_a_finding_is_for_those_who_may_see_issues():
    user = make_user()
    user.user_permissions.add(Permission.objects.get(codename="view_trackedfinding"))
    finding = make_finding()
    make_issue(make_session(), finding, context=["a secret line"] * 5)
    for url in (address("change", finding), address("changelist", TrackedFinding)):
        page = sign_in(user).get(url).content.decode()
        assert "src/a.py" in page and "a secret line" not in page


def test_text_of_a_codebase_is_never_markup(viewer):
    make_rule(name="no-eval", description="<b>`<i>`</b>")
    evil = "<script>alert(1)</script>"
    session = make_session()
    issue = make_issue(session, make_finding(path=evil), message=evil, context=[evil] * 4, path=evil)
    for url in (address("change", issue), issues_of(session), address("change", session)):
        page = viewer.get(url).content.decode()
        assert evil not in page and "&lt;script&gt;" in page, url
    assert "&lt;b&gt;<code>&lt;i&gt;</code>&lt;/b&gt;" in viewer.get(address("change", issue)).content.decode()


def test_the_page_of_a_finding_whose_rule_and_reviews_are_gone_opens(viewer):
    response = viewer.get(address("change", make_finding()))
    assert "not there any more" in text(response) and "are deleted" in text(response)


@pytest.mark.parametrize("kind", ["issue", "finding"])
def test_a_decision_is_made_on_the_page_of_a_finding(editor, kind):
    finding = make_finding()
    issue = make_issue(make_session(), finding)
    page = address("change", issue if kind == "issue" else finding)
    refused = editor.post(page, {"triage": "false_positive", "change_reason": " "})
    assert refused.status_code == 200 and refused.context["refusals"]
    assert not FindingDecision.objects.exists()
    response = editor.post(page, {"triage": "false_positive", "change_reason": "It is a test."})
    assert response["Location"] == page and "false positive now" in said(response)
    finding.refresh_from_db()
    assert (finding.triage, finding.triage_reason) == ("false_positive", "It is a test.")
    assert FindingDecision.objects.get().decided_by == finding.triaged_by


def test_what_is_typed_is_kept_when_a_decision_is_refused(editor):
    page = address("change", make_finding())
    assert editor.post(page, {"triage": "nonsense", "change_reason": "A long story."}).context["refusals"]
    assert (
        "A long story." in editor.post(page, {"triage": "nonsense", "change_reason": "A long story."}).content.decode()
    )


def act(client, url, action, items, **data):
    return client.post(url, {"action": action, "_selected_action": [str(item.pk) for item in items], **data})


@pytest.mark.parametrize("kind", ["issues", "findings"])
def test_many_findings_are_decided_about_at_once_and_with_a_reason(editor, kind):
    session = make_session()
    findings = [make_finding() for _ in range(3)]
    issues = [make_issue(session, finding) for finding in findings]
    items, url = (issues, issues_of(session)) if kind == "issues" else (findings, address("changelist", TrackedFinding))
    asked = act(editor, url, "triage_wont_fix", items[:2])
    assert asked.status_code == 200 and "2 findings" in text(asked)
    assert not FindingDecision.objects.exists()
    refused = act(editor, url, "triage_wont_fix", items[:2], post="yes", expected="2", change_reason="")
    assert refused.context["refusals"]
    moved = act(editor, url, "triage_wont_fix", items[:2], post="yes", expected="3", change_reason="Legacy.")
    assert "Select again" in moved.context["refusals"][0]
    done = act(editor, url, "triage_wont_fix", items[:2], post="yes", expected="2", change_reason="Legacy.")
    assert done["Location"] == url and "2 findings are won't fix now" in said(done)
    assert sorted(TrackedFinding.objects.values_list("triage", flat=True)) == ["open", "wont_fix", "wont_fix"]


def test_all_that_the_filters_leave_is_decided_about(editor):
    session = make_session()
    for severity in ("low", "low", "high"):
        make_issue(session, make_finding(severity=severity))
    url = issues_of(session, severity__exact="low")
    chosen = [DiscoveredIssue.objects.filter(severity="low").first()]
    asked = act(editor, url, "triage_acknowledged", chosen, select_across="1")
    assert asked.context["count"] == 2 and asked.context["across"]
    act(editor, url, "triage_acknowledged", chosen, select_across="1", post="yes", expected="2", change_reason="")
    assert TrackedFinding.objects.filter(triage="acknowledged").count() == 2


def test_whoever_has_decided_goes_on_with_the_next_open_finding(viewer):
    session = make_session()
    first = make_issue(session, make_finding(severity="high", path="a.py"))
    decided = make_issue(session, make_finding(severity="high", path="b.py", triage="wont_fix"))
    suppressed = make_issue(session, make_finding(severity="high", path="c.py"), suppressed=True)
    later = make_issue(session, make_finding(severity="high", path="a.py", line=9))
    last = make_issue(session, make_finding(severity="low", path="a.py"))
    for issue, expected in ((first, later), (later, last), (decided, last), (suppressed, last), (last, first)):
        page = viewer.get(address("change", issue)).content.decode()
        assert f'<a href="{address("change", expected)}" class="back-link">Next open finding' in page


def test_two_reviews_stand_side_by_side(viewer):
    before, between, session = make_session(), make_session(), make_session()
    gone, kept, came = make_finding(path="gone.py"), make_finding(path="kept.py"), make_finding(path="came.py")
    for review, findings in ((before, [gone, kept]), (between, [kept]), (session, [kept, came])):
        for finding in findings:
            make_issue(review, finding)
    url = reverse("admin:reviews_reviewsession_compare", args=[session.pk])
    assert shown_places(viewer.get(url)) == ["came.py:3"]
    response = viewer.get(f"{url}?with={before.pk}")
    assert shown_places(response) == ["came.py:3", "gone.py:3"]
    assert "1 unchanged" in text(response)
    assert viewer.get(f"{url}?with=nonsense").status_code == 200


def test_a_review_without_another_one_says_so(viewer):
    url = reverse("admin:reviews_reviewsession_compare", args=[make_session().pk])
    assert "no other complete review" in text(viewer.get(url))


def test_a_review_of_changes_only_cannot_be_compared(viewer):
    make_session()
    partly = make_session(scope="changes")
    response = viewer.get(reverse("admin:reviews_reviewsession_compare", args=[partly.pk]))
    assert "cannot tell what is gone" in text(response)


def test_a_prompt_is_read_copied_and_moved_on(editor):
    prompt = make_prompt(make_session(), body="# Mend <this>\n")
    page = address("change", prompt)
    response = editor.get(page)
    assert "# Mend &lt;this&gt;" in response.content.decode() and "reviews/copy.js" in response.content.decode()
    editor.post(page, {"status": "used"})
    prompt.refresh_from_db()
    assert prompt.status == "used"
    refused = editor.post(page, {"status": "exported"})
    assert "Nothing was stored" in said(refused)


def test_prompts_are_moved_on_together_or_not_at_all(editor):
    session = make_session()
    first, second = make_prompt(session), make_prompt(session, status="used")
    url = address("changelist", CopilotPrompt)
    refused = act(editor, url, "status_exported", [first, second])
    assert "Nothing was stored" in said(refused)
    first.refresh_from_db()
    assert first.status == "draft"
    act(editor, url, "status_dismissed", [first, second])
    assert set(CopilotPrompt.objects.values_list("status", flat=True)) == {"dismissed"}


def test_the_overview_tells_what_the_last_review_brought(viewer):
    make_session()
    session = make_session()
    make_session(status="queued")
    make_prompt(session, status="ready")
    shown = text(viewer.get(reverse("admin:index")))
    assert "1 new" in shown and "1 fixed" in shown and "1 prompt ready for Copilot" in shown


def count_queries(client, url):
    client.get(url)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(url).status_code == 200
    return len(queries)


def test_lists_and_pages_cost_as_many_queries_for_twenty_as_for_two(viewer):
    make_rule(name="no-eval")

    def fill(number):
        for _ in range(number):
            session, finding = make_session(), make_finding()
            make_issue(session, finding)
            make_issue(session, make_finding())
            make_prompt(session)
        return session

    session = fill(2)
    urls = [
        *(address("changelist", model) for model in (ReviewSession, DiscoveredIssue, TrackedFinding, CopilotPrompt)),
        address("change", session),
        issues_of(session),
        reverse("admin:reviews_reviewsession_compare", args=[session.pk]),
    ]
    few = [count_queries(viewer, url) for url in urls]
    fill(18)
    for _ in range(18):
        make_issue(session, make_finding())
    assert [count_queries(viewer, url) for url in urls] == few
