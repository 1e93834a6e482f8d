"""Is the starter configuration complete, readable and quiet enough to be the first thing a team sees?"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath

import django
import pytest
import yaml

from plugins import registry, schemas
from plugins.contract import Finding, RuleSpec, SourceFile, TreeAnalyzer
from plugins.expressions import compile_expression

STARTER = Path(__file__).resolve().parent.parent / "governance_config" / "presets" / "starter.yaml"
DOCUMENT = yaml.safe_load(STARTER.read_text(encoding="utf-8"))
RULES = DOCUMENT["analysis_rules"]
SEVERITIES = ("info", "low", "medium", "high", "critical")
RULE_TYPES = {
    "security",
    "performance",
    "reliability",
    "maintainability",
    "style",
    "testing",
    "documentation",
    "configuration",
}
FIELDS = {
    "name", "title", "description", "rule_type", "severity", "plugin", "configuration", "file_types", "file_patterns",
    "exclude_patterns", "message", "remediation", "references", "tags", "status", "examples", "enabled",
}  # fmt: skip
NOISY = 400

each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule["name"] for rule in RULES])


def specify(rule: dict) -> RuleSpec:
    return RuleSpec(**{field: rule[field] for field in rule if field in RuleSpec.__dataclass_fields__})


def words(text: str) -> int:
    return len(text.split())


def test_document_has_its_parts_and_no_others() -> None:
    assert set(DOCUMENT) == {
        "format",
        "title",
        "description",
        "plugins",
        "personas",
        "analysis_rules",
        "governance_rules",
        "approval_policies",
    }
    assert DOCUMENT["format"] == "code-review-governance/1"


def test_plugins_are_installed_enabled_and_well_configured() -> None:
    assert {plugin["name"] for plugin in DOCUMENT["plugins"]} == {rule["plugin"] for rule in RULES}
    for plugin in DOCUMENT["plugins"]:
        assert plugin["enabled"] is True
        assert schemas.errors(registry.get(plugin["name"]).configuration_schema, plugin["configuration"]) == []


def test_names_are_unique_and_kebab_case() -> None:
    names = [rule["name"] for rule in RULES]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert [name for name in names if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", name) or len(name) > 100] == []


def test_there_are_rules_of_every_type_and_few_critical_ones() -> None:
    types = Counter(rule["rule_type"] for rule in RULES)
    assert len(RULES) >= 120
    assert set(types) == RULE_TYPES
    assert min(types.values()) >= 3
    assert sum(rule["severity"] == "critical" for rule in RULES) <= len(RULES) / 10


def test_there_are_rules_for_six_languages_by_pattern_and_by_structure() -> None:
    languages = Counter(rule["configuration"].get("language") for rule in RULES if rule["plugin"] == "structure")
    assert {"python", "javascript", "typescript", "go", "java", "php"} <= set(languages)
    plugins = Counter(rule["plugin"] for rule in RULES)
    assert min(plugins["patterns"], plugins["structure"]) >= 50


def test_every_rule_type_has_exactly_one_persona() -> None:
    spoken_for = Counter(rule_type for persona in DOCUMENT["personas"] for rule_type in persona["rule_types"])
    assert spoken_for == Counter(RULE_TYPES)
    assert len(DOCUMENT["personas"]) == 6


@pytest.mark.parametrize("persona", DOCUMENT["personas"], ids=lambda persona: persona["name"])
def test_persona_has_a_voice_of_its_own(persona: dict) -> None:
    assert set(persona) == {"name", "title", "description", "voice", "rule_types"}
    assert 80 <= words(persona["voice"]) <= 200
    assert re.search(r"\b[Yy]ou\b", persona["voice"])


@each_rule
def test_rule_is_complete_and_worth_reading(rule: dict) -> None:
    assert set(rule) <= FIELDS
    assert FIELDS - set(rule) <= {"file_patterns", "exclude_patterns"}
    assert rule["severity"] in SEVERITIES
    assert rule["status"] == "active"
    assert rule["enabled"] is True
    assert rule["tags"] and all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in rule["tags"])
    assert words(rule["description"]) >= 15
    assert 3 <= words(rule["message"]) <= 20
    assert words(rule["remediation"]) >= 2
    assert rule["references"] and all(url.startswith("https://") for url in rule["references"])
    assert all(re.fullmatch(r"\.[a-z0-9]+", extension) for extension in rule["file_types"])


@each_rule
def test_rule_does_what_its_examples_say(rule: dict) -> None:
    # No example is as large as a large file, and what a comment suppresses is known of whole reviews only.
    unprovable = rule["configuration"].get("check") == "large_file" or rule["plugin"] == "directives"
    assert len(rule["examples"]["match"]) >= 2 or unprovable
    assert len(rule["examples"]["no_match"]) >= 2 or rule["plugin"] == "directives"
    configuration = next(each["configuration"] for each in DOCUMENT["plugins"] if each["name"] == rule["plugin"])
    assert registry.check_examples(specify(rule), rule["examples"], configuration) == []


@each_rule
def test_rule_can_reach_the_file_its_examples_stand_for(rule: dict) -> None:
    path = registry.example_path(specify(rule))
    assert applies(specify(rule), path), path


def applies(rule: RuleSpec, path: str) -> bool:
    if rule.file_types and PurePosixPath(path).suffix.lower() not in rule.file_types:
        return False
    if rule.file_patterns and not any(compile_expression(each).search(path) for each in rule.file_patterns):
        return False
    return not any(compile_expression(each).search(path) for each in rule.exclude_patterns)


def review(root: Path, suffixes: set[str]) -> list[Finding]:
    """What all starter rules find in the files of a folder."""
    found: list[Finding] = []
    specs = [specify(rule) for rule in RULES]
    for plugin in DOCUMENT["plugins"]:
        rules = [spec for spec in specs if spec.plugin == plugin["name"]]
        analyzer = registry.get(plugin["name"])()
        if isinstance(analyzer, TreeAnalyzer):
            continue
        analyzer.prepare(rules, plugin["configuration"])
        for file in sorted(root.rglob("*")):
            if file.suffix in suffixes and file.is_file():
                source = SourceFile(file.relative_to(root).as_posix(), file.read_bytes())
                asked = [rule for rule in rules if applies(rule, source.path)]
                found += [each for each in analyzer.analyze(source, asked) if isinstance(each, Finding)]
    return found


def test_starter_rules_are_quiet_on_a_large_well_kept_codebase() -> None:
    severities = {rule["name"]: rule["severity"] for rule in RULES}
    counts = Counter(finding.rule for finding in review(Path(django.__path__[0]), {".py", ".js", ".html"}))
    noisy = {name: count for name, count in counts.items() if count > NOISY}
    assert noisy == {}
    assert counts["python-eval-call"] > 0
    assert not any(severities[name] == "critical" for name in counts)
