"""Does the plugin that looks at a whole codebase find what should not be there, and what should?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from plugins import registry
from plugins.analyzers.manifests import kind_of
from plugins.analyzers.repository import Repository
from plugins.contract import Finding, PartialFailure, RuleError, RuleSpec, SourceTree, TreeAnalyzer, TreeFile
from plugins.forms import draw
from tests.factories import api_client, make_plugins, make_user
from tests.rest import NEW_RULE, RULES, expect_problem

COMMIT = "8f4b7f84864484a7bf31766abe9204da3cbe65b3"


def make_tree(files: Mapping[str, str | bytes | None]) -> SourceTree:
    """A tree of these contents; None stands for a file that is no text. `tree.reads` lists what was read."""
    contents = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
    listed = tuple(
        TreeFile(path, path.encode(), 9 if content is None else len(content)) for path, content in contents.items()
    )
    reads: list[str] = []

    def read(file: TreeFile) -> bytes | None:
        reads.append(file.path)
        return contents[file.path]

    tree = SourceTree(Path("/nowhere"), listed, read)
    object.__setattr__(tree, "reads", reads)
    return tree


def rule(check: str, name: str = "rule", **options: object) -> RuleSpec:
    return RuleSpec(name, plugin="repository", message="No.", configuration={"check": check, **options})


def find(files: Mapping[str, str | bytes | None] | SourceTree, *rules: RuleSpec) -> list[Finding | PartialFailure]:
    analyzer = Repository()
    for each in rules:
        analyzer.check_rule(each)
    analyzer.prepare(rules, {})
    tree = files if isinstance(files, SourceTree) else make_tree(files)
    return list(analyzer.analyze_tree(tree, rules))


def paths(found: list[Finding | PartialFailure]) -> list[str | None]:
    return [each.path for each in found]


def place(finding: Finding) -> tuple[int, int, int, int]:
    return finding.start_line, finding.start_column, finding.end_line, finding.end_column


# ---- paths and sizes


def test_forbidden_paths_are_found_at_any_depth_unless_taken_back() -> None:
    files = {
        ".env": "a",
        "app/.env": "b",
        "app/.env.example": "c",
        "keys/a.pem": None,
        "keys/test.pem": "d",
        "pem": "e",
    }
    found = find(files, rule("forbidden_path", paths=[".env", "*.pem", "!keys/test.pem"]))
    assert paths(found) == [".env", "app/.env", "keys/a.pem"]
    assert {each.message for each in found} == {"No."}


def test_no_line_of_a_forbidden_file_is_shown() -> None:
    (found,) = find({"a.pem": "-----BEGIN-----\nMIIé\n-----END-----\n\n"}, rule("forbidden_path", paths=["*.pem"]))
    assert found.sensitive
    assert (place(found), found.snippet) == ((1, 1, 3, 14), "")


@pytest.mark.parametrize("content", [None, b"", b"\n\n"])
def test_forbidden_file_without_text_is_found_at_its_beginning(content: bytes | None) -> None:
    (found,) = find({"a.pem": content}, rule("forbidden_path", paths=["*.pem"]))
    assert place(found) == (1, 1, 1, 1)


def test_large_files_are_known_without_reading_them() -> None:
    tree = make_tree({"a.bin": b"x" * 1001, "b.bin": b"x" * 1000, "c.txt": b"x" * 2000})
    found = find(tree, rule("large_file", max_bytes=1000), rule("large_file", "text", max_bytes=1000, paths=["*.txt"]))
    assert [(each.rule, each.path) for each in found] == [("rule", "a.bin"), ("rule", "c.txt"), ("text", "c.txt")]
    assert found[0].message == "No. (1,001 bytes, 1,000 is the limit)"
    assert place(found[0]) == (1, 1, 1, 1)
    assert tree.reads == []


@pytest.mark.parametrize(
    ("wanted", "present", "reported"),
    [
        (["/README*"], "docs/README.md", "README"),
        (["/README*", "/docs/index.md"], "README.md", None),
        (["/README*", "/docs/index.md"], "docs/index.md", None),
        (["LICENSE*"], "deep/LICENSE.txt", None),
        ([".github/CODEOWNERS", "CODEOWNERS"], "a.py", ".github/CODEOWNERS"),
        (["docs/**/*.md"], "a.md", "docs"),
        (["!x", "/SECURITY.md"], "a.md", "SECURITY.md"),
    ],
)
def test_missing_file_is_found_where_it_should_be(wanted: list[str], present: str, reported: str | None) -> None:
    found = find({present: "x"}, rule("missing_file", paths=wanted))
    assert paths(found) == ([reported] if reported else [])
    if found:
        assert place(found[0]) == (1, 1, 1, 1)
        assert f"`{next(each for each in wanted if not each.startswith('!'))}`" in found[0].message


def test_a_missing_file_is_told_by_the_paths_that_can_be_read() -> None:
    wanted = rule("missing_file", paths=["/[Rr][Ee][Aa][Dd][Mm][Ee]*", "/README.md"])
    (found,) = find({"a.py": "x"}, wanted)
    assert (found.path, found.message) == ("README.md", "No. (such as `/README.md`)")


@pytest.mark.parametrize(("files", "is_whole"), [({}, True), ({"a.py": "x"}, False)])
def test_nothing_is_missing_where_there_is_nothing_or_a_part(
    files: dict[str, str | bytes | None], is_whole: bool
) -> None:
    tree = make_tree(files)
    part = SourceTree(tree.root, tree.files, tree.read, is_whole)
    assert find(part, rule("missing_file", paths=["/README.md"])) == []


# ---- tests


@pytest.mark.parametrize(
    ("source", "template", "test"),
    [
        ("app/models.py", "tests/test_{stem}.py", "tests/test_models.py"),
        ("app/models.py", "{folder}/test_{stem}.py", "app/test_models.py"),
        ("models.py", "{folder}/test_{stem}.py", "test_models.py"),
        ("app/models.py", "**/test_{stem}.py", "test_models.py"),
        ("app/models.py", "**/test_{stem}.py", "a/b/c/test_models.py"),
        ("app/models.py", "tests/**/test_{stem}.py", "tests/test_models.py"),
        ("app/models.py", "tests/**/test_{stem}.py", "tests/unit/test_models.py"),
        ("app/models.py", "{folder}/**/test_{stem}.py", "app/tests/test_models.py"),
        ("app/models.py", "tests/{folder}/test_{stem}.py", "tests/app/test_models.py"),
        ("app/models.py", "**/{folder}/test_{stem}.py", "unit/tests/app/test_models.py"),
        ("app/api.v1.ts", "{folder}/{stem}.test.ts", "app/api.v1.test.ts"),
        ("pkg/a.go", "{folder}/{stem}_test.go", "pkg/a_test.go"),
        ("a/[id].ts", "{folder}/{name}.test", "a/[id].ts.test"),
        ("a/{stem}.py", "{folder}/test_{stem}.py", "a/test_{stem}.py"),
        ("Makefile", "{stem}.test", "Makefile.test"),
    ],
)
def test_a_test_is_found_where_a_template_says(source: str, template: str, test: str) -> None:
    asked = rule("missing_test", paths=["/" + source.replace("[", "\\[")], tests=["nowhere/{stem}", template])
    assert find({source: "x", test: "y"}, asked) == []
    (found,) = find({source: "x", f"{test}x": "y"}, asked)
    assert (found.path, place(found)) == (source, (1, 1, 1, 1))


def test_folder_and_end_of_a_test_do_not_overlap() -> None:
    asked = rule("missing_test", paths=["/b.py"], tests=["a/t/**/t/{stem}.x"])
    assert paths(find({"b.py": "x", "a/t/b.x": ""}, asked)) == ["b.py"]
    assert find({"b.py": "x", "a/t/b.x": "", "a/t/t/b.x": ""}, asked) == []


def test_missing_test_tells_where_it_was_looked_for() -> None:
    (found,) = find(
        {"a/b.py": "x"}, rule("missing_test", paths=["*.py"], tests=["{folder}/test_{stem}.py", "t/**/{name}"])
    )
    assert found.message == "No. (there is no `a/test_b.py`, `t/**/b.py`)"


def test_empty_files_and_those_taken_back_need_no_test() -> None:
    files = {"a/__init__.py": "", "a/test_x.py": "x", "a/b.py": "x"}
    asked = rule("missing_test", paths=["a/**/*.py", "!test_*.py"], tests=["{folder}/test_{stem}.py"])
    assert paths(find(files, asked)) == ["a/b.py"]


def test_large_tree_with_one_name_everywhere_stays_linear() -> None:
    files = {f"p{number}/q/index.ts": "x" for number in range(20_000)}
    files |= {f"p{number}/q/index.test.ts": "x" for number in range(0, 20_000, 2)}
    asked = rule(
        "missing_test", paths=["*.ts", "!*.test.ts"], tests=["{folder}/**/{stem}.test.ts", "t/**/{folder}/{stem}.ts"]
    )
    assert len(find(files, asked)) == 10_000


# ---- dependencies


def unpinned(path: str, content: str | bytes, **options: object) -> list[tuple[str, str]]:
    """What is not pinned: the text at the place of each finding, and what the message tells of it."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    found = []
    for each in find({path: content}, rule("unpinned_dependency", **options)):
        assert isinstance(each, Finding), each
        assert each.start_line == each.end_line
        said = lines[each.start_line - 1][each.start_column - 1 : each.end_column - 1]
        found.append((said, each.message.removeprefix("No. (`").removesuffix("`)")))
        assert each.snippet == found[-1][1]
    return found


REQUIREMENTS = f"""
# comment
-r other.txt
--index-url https://example.com/simple
pinned==1.0
pinned2 == 1.0 ; python_version < "3.9"
pinned3[extra]===1.0
pinned4>=1,==1.2.*,==1.2.3
hashed>=1 \\
    --hash=sha256:abc
./local/package
-e .
-e ./here
file:///opt/package.whl
package-1.0-py3-none-any.whl
git+https://example.com/a/b.git@{COMMIT}#egg=b
direct @ https://example.com/b-1.0.whl#sha256=0123
{{{{ template }}}}
$VARIABLE
this line is prose
loose
  loose2[extra] >= 1.0,<2  # comment
loose3==1.*
loose4~=1.0;python_version=="3.9"
(not a requirement)
-e git+https://user:token@example.com/a/b.git@main#egg=b
direct2 @ https://example.com/b-1.0.whl ; python_version == "3.9"
loose5>=1, \\
    <2
straße>1
"""


def test_requirements_without_one_version_are_found() -> None:
    assert unpinned("requirements.txt", REQUIREMENTS) == [
        ("loose", "loose"),
        ("loose2[extra] >= 1.0,<2", "loose2[extra] >= 1.0,<2"),
        ("loose3==1.*", "loose3==1.*"),
        ("loose4~=1.0", "loose4~=1.0"),
        ("git+https://user:token@example.com/a/b.git@main#egg=b", "git+https://***@example.com/a/b.git@main#egg=b"),
        ("direct2 @ https://example.com/b-1.0.whl", "direct2 @ https://example.com/b-1.0.whl"),
        ("loose5>=1,", "loose5>=1, <2"),
        ("straße>1", "straße>1"),
    ]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("requirements.txt", "git+https://user:hunter2@example.com/a/b.git@main\nplain\n"),
        ("package.json", '{"dependencies": {"a": "git+https://user:hunter2@example.com/a/b.git",\n"plain": "*"}}'),
    ],
)
def test_line_that_holds_a_credential_is_shown_nowhere_else(path: str, content: str) -> None:
    secret, plain = find({path: content}, rule(check="unpinned_dependency"))
    assert "hunter2" not in repr(secret)
    assert (secret.sensitive, plain.sensitive) == (True, False)


def test_byte_order_mark_and_line_ends_do_not_move_a_requirement() -> None:
    assert unpinned("requirements-dev.txt", b"\xef\xbb\xbfa\r\nb==1\r\n  c>1\r\n") == [("a", "a"), ("c>1", "c>1")]


PACKAGE = """{
  "name": "x", "version": "^1.0.0",
  "engines": {"node": ">=18"},
  "peerDependencies": {"react": "*"},
  "dependencies": {
    "exact": "1.2.3", "exact2": "=1.2.3-beta.1+build", "é": "v1.2.3",
    "local": "file:../x", "own": "workspace:*", "alias": "npm:@a/b@1.2.3",
    "fixed": "git+ssh://git@example.com/a/b.git#COMMIT", "fixed2": "a/b#COMMIT", "ball": "https://example.com/a.tgz",
    "é2": "^1.0.0", "tilde": "~1.2", "star": "*",
    "none": "", "latest": "latest", "x": "1.x",
    "or": "1.0.0 || 2.0.0", "alias2": "npm:@a/b@^1", "alias3": "npm:b",
    "branch": "github:a/b", "branch2": "git+https://u:p@example.com/a/b.git#semver:^1",
    "nested": {"dependencies": {"a": "^1"}}, "list": ["^1"], "quote\\"d": ">1"
  },
  "scripts": {"dependencies": "^1"},
  "devDependencies":
    {"split":
"next"}
}
""".replace("COMMIT", COMMIT)


def test_versions_in_a_package_that_allow_another_are_found() -> None:
    found = find({"web/package.json": PACKAGE}, rule("unpinned_dependency"))
    assert [each.message.removeprefix("No. (`").removesuffix("`)") for each in found] == [
        "é2 ^1.0.0", "tilde ~1.2", "star *", "none", "latest latest", "x 1.x", "or 1.0.0 || 2.0.0",
        "alias2 npm:@a/b@^1", "alias3 npm:b", "branch github:a/b",
        "branch2 git+https://***@example.com/a/b.git#semver:^1", 'quote"d >1', "split next",
    ]  # fmt: skip
    assert place(found[0]) == (9, 5, 9, 19)
    assert place(found[-1]) == (17, 6, 18, 7)


DOCKERFILE = f"""# syntax=docker/dockerfile:1
ARG BASE=python
FROM python:3.12 AS build
RUN psql -c "SELECT 1 \\
# comment
FROM users"
RUN <<EOF
FROM heredoc
EOF
RUN echo $((1 <<2)) << nothing
FROM build
FROM scratch
FROM $BASE
FROM ${{BASE:-python}}
FROM python:${{VERSION}}
FROM python@sha256:{"0" * 64}
FROM registry:5000/team/app:1
FROM registry:5000/team/app
  from --platform=$BUILDPLATFORM  node:latest  as web
FROM $REGISTRY/node
FROM WEB
"""


@pytest.mark.parametrize("path", ["Dockerfile", "a/Dockerfile.dev", "api.dockerfile", "Containerfile"])
def test_images_without_a_tag_are_found(path: str) -> None:
    assert unpinned(path, DOCKERFILE) == [
        ("registry:5000/team/app", "registry:5000/team/app"),
        ("node:latest", "node:latest"),
        ("$REGISTRY/node", "$REGISTRY/node"),
    ]


WORKFLOW = f"""on: push
uses: not/here@main
env: &shared {{uses: not/here@main}}
jobs:
  ünit:
    env: *shared
    steps:
      - uses: actions/checkout@v4  # comment
      - {{name: ö, uses: 'a/b@{COMMIT}'}}
      - {{name: ö, uses: "a/b/c@main"}}
      - uses: ./local
      - uses: docker://alpine
      - uses: docker://alpine:3.20
      - uses: ${{{{ matrix.action }}}}
      - with:
          uses: not/here@main
        run: |
          uses: not/here@main
      - ? [a, list]
        : b
      - uses: a/without-ref
  called:
    uses: a/b/.github/workflows/x.yml@main
"""


def test_actions_that_can_move_are_found() -> None:
    assert unpinned(".github/workflows/ci.yml", WORKFLOW) == [
        ("actions/checkout@v4", "actions/checkout@v4"),
        ('"a/b/c@main"', "a/b/c@main"),
        ("docker://alpine", "docker://alpine"),
        ("a/without-ref", "a/without-ref"),
        ("a/b/.github/workflows/x.yml@main", "a/b/.github/workflows/x.yml@main"),
    ]
    action = "runs:\n  using: composite\n  steps:\n    - uses: a/b@v1\n"
    assert unpinned("tools/action.yml", action) == [("a/b@v1", "a/b@v1")]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("requirements.txt", "requirements"),
        ("a/dev-requirements.txt", "requirements"),
        ("requirements/base.txt", "requirements"),
        ("requirements.in", None),
        ("notes.txt", None),
        ("package.json", "package_json"),
        ("package-lock.json", None),
        (".github/workflows/a.yaml", "workflow"),
        ("a/.github/workflows/a.yml", "workflow"),
        (".github/dependabot.yml", None),
        ("docs/dockerfile.md", "dockerfile"),
        ("Dockerfiles/readme", None),
    ],
)
def test_kind_of_a_file_is_told_by_its_path(path: str, kind: str | None) -> None:
    assert kind_of(path) == kind


def test_kinds_and_allowed_names_narrow_the_search_and_each_file_is_read_once() -> None:
    tree = make_tree(
        {"requirements.txt": "a\nb\n", "Dockerfile": "FROM x\n", ".github/workflows/a.yml": WORKFLOW, "a.py": "x"}
    )
    found = find(
        tree,
        rule("unpinned_dependency", "one", kinds=["requirements"], allowed=["b"]),
        rule("unpinned_dependency", "two", kinds=["requirements", "workflow"], allowed=["a/*", "actions/*", "alpine"]),
    )
    assert [(each.rule, each.snippet) for each in found] == [
        ("one", "a"),
        ("two", "a"),
        ("two", "b"),
    ]
    assert tree.reads == ["requirements.txt", ".github/workflows/a.yml"]


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("package.json", '{\n"a": }', "line 2: Expecting value"),
        ("package.json", "[" * 100_000, "nested too deeply"),
        ("package.json", "1" * 10_000, "number that is too long"),
        (".github/workflows/a.yml", "a: 1\nb: c: d\n", "line 2: mapping values are not allowed"),
        (".github/workflows/a.yml", "[" * 100_000, "line 1: nested too deeply"),
        (".github/workflows/a.yml", "- " * 100_000, "line 1: nested too deeply"),
        (".github/workflows/a.yml", "a: \x07\n", "control characters are not allowed"),
    ],
)
def test_file_that_cannot_be_read_costs_only_itself(path: str, content: str, told: str) -> None:
    found = find({path: content, "z/requirements.txt": "a"}, rule("unpinned_dependency"))
    failures = [each for each in found if isinstance(each, PartialFailure)]
    assert [each.path for each in failures] == [path]
    assert told in failures[0].message
    assert [each.path for each in found if isinstance(each, Finding)] == ["z/requirements.txt"]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"\n" * 1000])
@pytest.mark.parametrize("path", ["requirements.txt", "Dockerfile", ".github/workflows/a.yml"])
def test_odd_contents_are_no_error(path: str, content: bytes | None) -> None:
    assert [each for each in find({path: content}, rule("unpinned_dependency")) if isinstance(each, Finding)] == []


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("requirements.txt", "a" + " " * 200_000 + "b"),
        ("requirements.txt", "a" * 200_000 + "!"),
        ("requirements.txt", "a[" * 100_000),
        ("requirements.txt", "\\\n" * 100_000),
        ("requirements.txt", "http:" + "/@" * 100_000),
        ("Dockerfile", "RUN <<A <<B\n" * 30_000),
        ("Dockerfile", "FROM" + " --a" * 50_000),
        ("package.json", '{"dependencies": {"a": "' + "1." * 100_000 + '"}}'),
        (".github/workflows/a.yml", "jobs: {" + "a: 1, " * 30_000 + "}"),
    ],
)
def test_hostile_contents_take_linear_time(path: str, content: str) -> None:
    find({path: content}, rule("unpinned_dependency"))


# ---- rules


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        ({}, "configuration/check"),
        ({"check": "nothing"}, "configuration/check"),
        ({"check": "forbidden_path"}, "configuration/paths"),
        ({"check": "forbidden_path", "paths": []}, "configuration/paths"),
        ({"check": "forbidden_path", "paths": ["a", "!"]}, "configuration/paths/1"),
        ({"check": "forbidden_path", "paths": ["[z-a]"]}, "configuration/paths/0"),
        ({"check": "forbidden_path", "paths": ["# a"]}, "configuration/paths/0"),
        ({"check": "forbidden_path", "paths": ["a"], "max_bytes": 5}, "configuration/max_bytes"),
        ({"check": "large_file", "paths": ["a"]}, "configuration/max_bytes"),
        ({"check": "large_file", "max_bytes": 0}, "configuration/max_bytes"),
        ({"check": "missing_file", "paths": ["a"], "tests": ["{stem}"]}, "configuration/tests"),
        ({"check": "missing_test", "paths": ["a"]}, "configuration/tests"),
        ({"check": "missing_test", "tests": ["{stem}"]}, "configuration/paths"),
        ({"check": "missing_test", "paths": ["a"], "tests": ["{stem}", "tests.py"]}, "configuration/tests/1"),
        ({"check": "missing_test", "paths": ["a"], "tests": ["{stem}{other}"]}, "configuration/tests/0"),
        ({"check": "missing_test", "paths": ["a"], "tests": ["test_{stem}_*.py"]}, "configuration/tests/0"),
        ({"check": "missing_test", "paths": ["a"], "tests": ["a/**/b/**/{stem}"]}, "configuration/tests/0"),
        ({"check": "missing_test", "paths": ["a"], "tests": ["/tests/{stem}"]}, "configuration/tests/0"),
        ({"check": "unpinned_dependency", "paths": ["a"]}, "configuration/paths"),
        ({"check": "unpinned_dependency", "kinds": ["cargo"]}, "configuration/kinds/0"),
    ],
)
def test_rule_that_cannot_run_is_refused_at_its_field(configuration: dict, field: str) -> None:
    with pytest.raises(RuleError) as caught:
        Repository().check_rule(RuleSpec("rule", plugin="repository", configuration=configuration))
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["file_types", "file_patterns"])
def test_missing_file_belongs_to_no_other_file(field: str) -> None:
    asked = {"check": "missing_file", "paths": ["/README*"]}
    with pytest.raises(RuleError) as caught:
        Repository().check_rule(RuleSpec("rule", plugin="repository", configuration=asked, **{field: [".md"]}))
    assert caught.value.field == field


def test_plugin_is_a_tree_analyzer_whose_forms_can_be_drawn() -> None:
    assert registry.get("repository") is Repository
    assert isinstance(Repository(), TreeAnalyzer)
    assert draw(Repository.rule_schema) is not None
    assert draw(Repository.configuration_schema) is not None


# ---- examples of rules about a tree


def test_example_is_a_codebase_of_one_file_that_may_say_its_path() -> None:
    asked = rule("forbidden_path", paths=["*.pem"])
    examples = {"match": ["# path: keys/a.pem\nx", "# path: a.pem"], "no_match": ["x", "# path: a.py\n# path: a.pem"]}
    assert registry.check_examples(asked, examples) == []
    turned = {"match": examples["no_match"], "no_match": examples["match"]}
    assert [pointer for pointer, _ in registry.check_examples(asked, turned)] == [
        "/examples/match/0", "/examples/match/1", "/examples/no_match/0", "/examples/no_match/1",
    ]  # fmt: skip


def test_line_with_the_path_is_no_part_of_the_file() -> None:
    asked = rule("large_file", max_bytes=3)
    assert registry.check_examples(asked, {"match": ["# path: a\r\nabcd"], "no_match": ["# path: a\nabc"]}) == []


def test_partial_failure_is_no_match_of_an_example() -> None:
    asked = rule("unpinned_dependency")
    ((pointer, _),) = registry.check_examples(asked, {"match": ["# path: package.json\n{"], "no_match": []})
    assert pointer == "/examples/match/0"


def test_class_that_is_asked_nothing_is_no_analyzer() -> None:
    class Silent(Repository):
        name = "silent"
        analyze_tree = None

    assert registry._find_fault(Repository) is None
    assert "analyze_tree" in registry._find_fault(Silent)


# ---- the API door

NO_KEYS = {
    **NEW_RULE,
    "name": "no-keys",
    "plugin": "repository",
    "file_types": [],
    "configuration": {"check": "forbidden_path", "paths": ["*.pem"]},
    "examples": {"match": ["# path: a.pem\n"], "no_match": ["# path: a.py\nx = 1\n"]},
}


@pytest.mark.django_db
def test_rule_is_created_and_its_examples_run() -> None:
    make_plugins()
    client = api_client(make_user(superuser=True))
    answer = client.post(RULES, NO_KEYS, format="json")
    assert answer.status_code == 201, answer.content
    wrong = {**NO_KEYS, "name": "wrong", "examples": {"match": ["# path: a.py\n"], "no_match": []}}
    expect_problem(client.post(RULES, wrong, format="json"), 400, "invalid", "#/examples/match/0")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("configuration", "pointer"),
    [
        ({"check": "forbidden_path"}, "#/configuration/paths"),
        ({"check": "forbidden_path", "paths": ["*.pem", "!"]}, "#/configuration/paths/1"),
        ({"check": "large_file", "max_bytes": "big"}, "#/configuration/max_bytes"),
        ({"check": "forbidden_path", "paths": ["*.pem"], "kinds": ["workflow"]}, "#/configuration/kinds"),
    ],
)
def test_bad_configuration_is_answered_with_its_pointer(configuration: dict, pointer: str) -> None:
    make_plugins()
    client = api_client(make_user(superuser=True))
    answer = client.post(RULES, {**NO_KEYS, "configuration": configuration}, format="json")
    expect_problem(answer, 400, "invalid", pointer)
