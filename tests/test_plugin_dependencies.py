"""What a plugin needs: other plugins, their versions, programs. It is refused in words, and nothing is pulled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.errors import StateConflict
from plugins import dependencies, registry
from plugins.contract import Executable
from plugins.models import Plugin
from plugins.services import sync_plugins, toggle
from tests.admin_client import address, errors, sign_in, submit
from tests.factories import api_client, make_plugins, make_user
from tests.packages import Packages, install_program, packages, programs  # noqa: F401, fixtures
from tests.rest import PLUGINS, expect_problem

# ---- how needs are written


@pytest.mark.parametrize(
    ("text", "name", "fitting", "others"),
    [
        ("patterns", "patterns", ["0.1", "9", "no version"], []),
        ("patterns>=1.2,<2", "patterns", ["1.2", "1.10", "1.3.dev1"], ["1.1.9", "2", "no version"]),
        ("patterns >= 1.2", "patterns", ["1.2.0"], ["1.1"]),
        ("other-one~=1.4", "other-one", ["1.4", "1.9"], ["2.0", "1.3"]),
        ("patterns==1.*", "patterns", ["1.0"], ["2"]),
    ],
)
def test_requirement_names_a_plugin_and_its_versions(text, name, fitting, others):
    requirement = dependencies.parse(text)
    assert requirement.name == name
    assert [version for version in (*fitting, *others) if requirement.allows(version)] == fitting


@pytest.mark.parametrize(
    ("requires", "executables", "told"),
    [
        ("patterns", (), "sequence of plugin names"),
        ((1,), (), "sequence of plugin names"),
        (("Patterns",), (), "'Patterns' is not the name"),
        (("patterns[extra]",), (), r"does not say versions"),
        (("patterns 1.2",), (), "does not say versions"),
        (("patterns>=one",), (), "does not say versions"),
        (("patterns>=1", "patterns<2"), (), "requires a plugin twice"),
        ((), "ruff", "not a sequence"),
        ((), ("ruff",), "not plugins.contract.Executable"),
        ((), (Executable("ruff", "pip install ruff", "newest"),), "'newest', which is not a version"),
    ],
)
def test_needs_that_cannot_be_read_are_a_fault(requires, executables, told):
    assert told in dependencies.find_fault(requires, executables)


def test_needs_that_can_be_read_are_none():
    assert dependencies.find_fault(("patterns>=1.2,<2",), [Executable("ruff", "pip install ruff", "0.5")]) is None


@pytest.mark.parametrize(
    ("text", "version"), [("ruff 0.17.6", "0.17.6"), ("v1.2", "1.2"), ("1.0rc1", "1.0rc1"), ("nothing", None)]
)
def test_version_is_read_out_of_what_a_program_says(text, version):
    found = dependencies.read_version(text)
    assert (None if found is None else str(found)) == version


# ---- switched through the doors

NEEDY = """
class Needy(Patterns):
    name = "needy"
    requires = ("secrets>={minimum}", "patterns")
"""
TOOL = """
from plugins.contract import Executable

class Tool(Patterns):
    name = "tool"
    executables = (Executable("frobnicate", "pip install frobnicate", "1.5"),)
"""


@pytest.fixture
def manager():
    return api_client(make_user("plugin manager"))


def switch(client, name, enabled=True):
    return client.post(f"{PLUGINS}/{name}/toggle", {"enabled": enabled})


@pytest.mark.django_db
def test_requirement_with_a_version_is_met_by_that_version(packages: Packages, manager):  # noqa: F811
    packages.install("needy_package", NEEDY.format(minimum="0.5,<99"), needy="Needy")
    make_plugins()
    plugin = manager.get(f"{PLUGINS}/needy").json()
    assert plugin["enabled"] is True
    assert plugin["requires"] == ["secrets", "patterns"]
    assert plugin["requirements"] == ["secrets >=0.5,<99", "patterns"]
    assert manager.get(f"{PLUGINS}/secrets").json()["required_by"] == ["needy"]
    problem = expect_problem(switch(manager, "secrets", False), 409, "conflict")
    assert problem["detail"] == "needy requires secrets: enable it first, or disable needy."


@pytest.mark.django_db
def test_plugin_that_requires_another_version_comes_off_and_stays_off(packages: Packages, manager):  # noqa: F811
    packages.install("needy_package", NEEDY.format(minimum="99"), needy="Needy")
    make_plugins()
    assert Plugin.objects.get(name="needy").enabled is False
    told = (
        f"needy requires secrets >=99, but version {registry.get('secrets').version} is installed: install a version "
        "of secrets that will do, or disable needy."
    )
    for response in (switch(manager, "needy"), manager.patch(f"{PLUGINS}/needy", {"enabled": True})):
        assert expect_problem(response, 409, "conflict")["detail"] == told
    page = submit(
        sign_in(make_user("plugin manager")), address("change", Plugin.objects.get(name="needy")), enabled="on"
    )
    assert told in errors(page)["__all__"]
    assert Plugin.objects.get(name="needy").enabled is False


@pytest.mark.django_db
def test_plugin_that_requires_one_that_is_not_installed_says_so(packages: Packages, manager):  # noqa: F811
    packages.install("needy_package", NEEDY.replace("secrets>={minimum}", "nowhere"), needy="Needy")
    make_plugins()
    problem = expect_problem(switch(manager, "needy"), 409, "conflict")
    assert problem["detail"] == ("needy requires nowhere: install the package that provides nowhere, or disable needy.")


@pytest.mark.django_db
def test_contradiction_that_was_there_before_blocks_nothing_else(packages: Packages, manager):  # noqa: F811
    packages.install("needy_package", NEEDY.format(minimum="0.5"), needy="Needy")
    make_plugins()
    packages.install("needy_package", NEEDY.format(minimum="99"), needy="Needy")
    assert switch(manager, "patterns", False).status_code == 409
    configuration = {"max_findings_per_file": 7}
    for name in ("needy", "secrets"):
        response = manager.patch(f"{PLUGINS}/{name}", {"configuration": configuration})
        assert response.status_code == 200, response.content
    assert switch(manager, "needy", False).status_code == 200
    assert switch(manager, "needy").status_code == 409


@pytest.mark.django_db
def test_external_tool_comes_off_and_is_opted_into(packages: Packages, programs: Path, manager):  # noqa: F811
    install_program(programs, "frobnicate", "2.0")
    packages.install("tool_package", TOOL, tool="Tool")
    assert "tool" in sync_plugins()
    assert Plugin.objects.get(name="tool").enabled is False
    assert switch(manager, "tool").json()["enabled"] is True
    assert sync_plugins() == []
    assert Plugin.objects.get(name="tool").enabled is True


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("version", "told"),
    [
        (None, "tool cannot run: the program frobnicate was not found; install it with: pip install frobnicate."),
        ("1.4.9", "frobnicate is version 1.4.9, 1.5 or newer is needed; install it with: pip install frobnicate."),
        (
            "x",
            "does not tell its version, and 1.5 or newer is needed; install it with: pip install frobnicate.",
        ),
    ],
)
def test_tool_without_its_program_cannot_be_enabled(
    packages: Packages,  # noqa: F811
    programs: Path,  # noqa: F811
    manager,
    version,
    told,
):
    packages.install("tool_package", TOOL, tool="Tool")
    make_plugins()
    if version is not None:
        install_program(programs, "frobnicate", version)
    assert expect_problem(switch(manager, "tool"), 409, "conflict")["detail"].endswith(told)
    page = submit(
        sign_in(make_user("plugin manager")), address("change", Plugin.objects.get(name="tool")), enabled="on"
    )
    assert errors(page)["__all__"][0].endswith(told)
    with pytest.raises(StateConflict):
        toggle(name="tool", enabled=True)
    assert Plugin.objects.get(name="tool").enabled is False
    install_program(programs, "frobnicate", "1.10")
    assert switch(manager, "tool").status_code == 200


@pytest.mark.django_db
def test_tool_whose_program_vanished_stays_on_and_can_be_set(packages: Packages, programs: Path, manager):  # noqa: F811
    program = install_program(programs, "frobnicate", "2.0")
    packages.install("tool_package", TOOL, tool="Tool")
    make_plugins()
    switch(manager, "tool")
    program.unlink()
    response = manager.patch(f"{PLUGINS}/tool", {"configuration": {"max_findings_per_file": 7}})
    assert response.status_code == 200, response.content
    assert response.json()["enabled"] is True
    assert switch(manager, "secrets", False).status_code == 200


@pytest.mark.django_db
def test_plugin_whose_package_is_gone_can_still_be_switched_off(packages: Packages, manager):  # noqa: F811
    packages.install("needy_package", NEEDY.format(minimum="0.5"), needy="Needy")
    make_plugins()
    packages.remove("needy_package")
    assert switch(manager, "needy", False).status_code == 200
    expect_problem(switch(manager, "needy"), 400, "invalid")
