"""Which languages can be parsed, and which files are written in them?

The parsers are those that ast-grep brings along. It panics when it is asked for a language it does not know, so nothing
but the names listed here may reach it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ast_grep_py import SgRoot

METAVARIABLE_NAME = r"[A-Z_][A-Z0-9_]*"


@dataclass(frozen=True, slots=True)
class Language:
    """`extensions` are lower case with their dot; a name such as `Rakefile` counts as `.rakefile`."""

    name: str
    extensions: tuple[str, ...]
    sigil: str = "$"
    """What ast-grep writes for the `$` of a metavariable, so that the language's parser takes it for a name."""

    def parse(self, text: str) -> Any:
        """The root of the syntax tree. Broken code is parsed too; a lone surrogate raises UnicodeEncodeError."""
        return SgRoot(text, self.name).root()

    def parse_pattern(self, pattern: str) -> Any:
        """The root of a pattern's own tree, read in the way ast-grep reads it."""
        following = pattern[1:] + " "

        def replace(dollars: re.Match[str]) -> str:
            length = dollars.end() - dollars.start()
            named = re.match("[A-Z_]", following[dollars.end() - 1]) is not None
            return self.sigil * length if named or length == 3 else dollars[0]

        return self.parse(re.sub(r"\$+", replace, pattern))

    def is_metavariable(self, text: str) -> bool:
        """Whether `text`, taken from the tree of a pattern, stands for any code."""
        sigil = re.escape(self.sigil)
        return re.fullmatch(f"(?:{sigil}){{1,3}}{METAVARIABLE_NAME}|(?:{sigil}){{3}}", text) is not None

    def owns(self, path: str) -> bool:
        """Whether the file at `path` is written in this language, as far as its name tells."""
        name = path.rpartition("/")[2].lower()
        return f".{name}".endswith(self.extensions)


LANGUAGES: dict[str, Language] = {
    each.name: each
    for each in (
        Language("bash", (".sh", ".bash", ".bats", ".bashrc", ".bash_profile", ".profile")),
        Language("c", (".c", ".h"), "𐀀"),
        Language("cpp", (".cpp", ".cc", ".cxx", ".c++", ".hpp", ".hh", ".hxx", ".h++", ".ino", ".cu", ".h"), "𐀀"),
        Language("csharp", (".cs", ".csx"), "µ"),
        Language("css", (".css",), "_"),
        Language("dart", (".dart",)),
        Language("elixir", (".ex", ".exs"), "µ"),
        Language("go", (".go",), "µ"),
        Language("haskell", (".hs",), "µ"),
        Language("hcl", (".hcl", ".tf", ".tfvars"), "µ"),
        Language("html", (".html", ".htm", ".xhtml"), "z"),
        Language("java", (".java",)),
        Language("javascript", (".js", ".jsx", ".mjs", ".cjs")),
        Language("json", (".json",)),
        Language("kotlin", (".kt", ".kts", ".ktm"), "µ"),
        Language("lua", (".lua",)),
        Language("markdown", (".md", ".markdown")),
        Language("nix", (".nix",), "_"),
        Language("php", (".php", ".phtml"), "µ"),
        Language("python", (".py", ".pyi", ".pyw"), "µ"),
        Language("ruby", (".rb", ".rake", ".gemspec", ".ru", ".rakefile", ".gemfile", ".podfile", ".vagrantfile"), "µ"),
        Language("rust", (".rs",), "µ"),
        Language("scala", (".scala", ".sc", ".sbt")),
        Language("solidity", (".sol",)),
        Language("swift", (".swift",), "µ"),
        Language("tsx", (".tsx",)),
        Language("typescript", (".ts", ".mts", ".cts")),
        Language("yaml", (".yaml", ".yml")),
        Language("zig", (".zig",), "_"),
    )
}
