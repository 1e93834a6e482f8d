"""The files for several processes and hosts: they name what there is, and nginx takes its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
DEPLOY = ROOT / "deploy"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def read_variables(*paths: Path) -> set[str]:
    return {name for path in paths for name in re.findall(r"\bGOVERNANCE_[A-Z_]+\b", path.read_text(encoding="utf-8"))}


def test_every_variable_that_the_server_reads_is_explained():
    source = (ROOT / "governance_config" / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r'(?:environ\.get|environ|read_flag|read_list|read_secret)[\[(]"([A-Z_]+)"', source))
    assert "GOVERNANCE_METRICS_TOKEN" in read
    assert read - {name for name in read if f"`{name}`" in OPERATIONS} == set()


def test_the_deployment_sets_no_variable_that_nobody_reads():
    used = read_variables(ROOT / "Containerfile", DEPLOY / "compose.yaml", DEPLOY / ".env.example")
    assert {name for name in used if f"`{name}`" not in OPERATIONS} == set()


def test_every_value_that_the_composition_asks_for_is_in_the_example():
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    example = (DEPLOY / ".env.example").read_text(encoding="utf-8")
    for name in re.findall(r"\$\{([A-Z_]+)", text):
        assert re.search(rf"^{name}=", example, re.MULTILINE), name


def test_the_composition_starts_what_the_server_has():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"postgresql", "redis", "prepare", "web1", "web2", "worker", "nginx"}
    for name in ("prepare", "web1", "web2", "worker"):
        assert services[name]["environment"]["GOVERNANCE_PRODUCTION"] == "1"
    # The servers are reached through nginx alone, whose forwarded headers they believe.
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    proxy = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    assert set(re.findall(r"server (web\d):8000", proxy)) == {name for name in services if name.startswith("web")}


def test_the_image_has_every_part_of_the_server_and_nothing_that_is_left_out():
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Containerfile").read_text(), re.MULTILINE))
    names = {name for entry in copied for name in entry.split()}
    assert {"audit", "plugins", "rules", "personas", "overrides", "reviews", "governance_config", "templates"} <= names
    assert all((ROOT / name).exists() for name in names)
    ignored = set((ROOT / ".containerignore").read_text().split())
    assert ignored == set((ROOT / ".dockerignore").read_text().split())
    assert names.isdisjoint(ignored)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed here")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here")
def test_nginx_takes_its_configuration(tmp_path):
    names = ("privkey.pem", "fullchain.pem")
    key, certificate = (str(tmp_path / name) for name in names)
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=x",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8").replace("/etc/nginx/tls", str(tmp_path))
    text = re.sub(r"server web\d:8000", "server 127.0.0.1:8000", text)
    whole = tmp_path / "nginx.conf"
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind}; " for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    paths = f"client_body_temp_path {tmp_path}/body; {folders}access_log off;"
    whole.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ {paths}\n{text}\n}}")
    done = subprocess.run(["nginx", "-t", "-c", str(whole)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
