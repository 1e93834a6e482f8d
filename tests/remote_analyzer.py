"""An analyzer of another package with secrets in its settings and in its rules. Installed by tests as a module."""

CODE = '''
import hashlib

from plugins.contract import Finding, RuleError


def spell(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Remote:
    """Finds lines with a word. Its messages tell by a digest which secrets it was given, and in a mood the secrets."""

    name, title, description, version = "remote", "Remote", "Asks a service.", "1.0.0"
    requires = ()
    configuration_schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "url": {"type": "string", "format": "uri"},
            "mood": {"type": "string", "enum": ["quiet", "chatty", "broken"]},
            "token": {"type": "string", "secret": True, "minLength": 4},
            "login": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"user": {"type": "string"}, "password": {"type": "string", "secret": True}},
            },
            "hosts": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"host": {"type": "string"}, "key": {"type": "string", "secret": True}},
                    "required": ["host"],
                },
            },
        },
    }
    rule_schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"word": {"type": "string"}, "password": {"type": "string", "secret": True}},
        "required": ["word"],
    }

    def check_rule(self, rule):
        password = rule.configuration.get("password", "")
        if password.startswith("refuse"):
            raise RuleError(f"The password {password} is refused.", field="configuration/password")

    def prepare(self, rules, configuration):
        self.configuration = configuration

    def analyze(self, source, rules):
        token = self.configuration.get("token", "")
        if self.configuration.get("mood") == "broken":
            raise ValueError(f"cannot sign in with {token}")
        for rule in rules:
            for number, line in enumerate(source.content.decode().splitlines(), 1):
                if rule.configuration["word"] in line:
                    password = rule.configuration.get("password", "")
                    told = f"{token} {password}" if self.configuration.get("mood") == "chatty" else ""
                    message = f"{rule.message} {spell(token)} {spell(password)} {told}"
                    yield Finding(rule.name, source.path, number, 1, number, 2, message, line + told)
'''
