"""How does text that anybody may have written stay text inside a Markdown file? Pure.

Code under review, file names and messages about them are quoted in files that editors and agents obey. Nothing in them
may end a fence, begin a heading, hide from the reader, or be taken for a reference: VS Code looks for `[text](file)`,
`#file:`, `#tool:` and `${input:…}` in the whole body of a prompt file, inside fences too (its promptFileParser.ts). A
space takes them apart, which leaves code as good as it was.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from urllib.parse import quote

LINE = 300
"""Characters of a quoted line that are shown."""

_LANGUAGES = {
    **dict.fromkeys(("py", "pyi"), "python"),
    **dict.fromkeys(("js", "mjs", "cjs"), "javascript"),
    **dict.fromkeys(("ts", "mts", "cts"), "typescript"),
    **dict.fromkeys(("sh", "bash"), "bash"),
    **dict.fromkeys(("yml", "yaml"), "yaml"),
    **dict.fromkeys(("html", "htm"), "html"),
    **dict.fromkeys(("kt", "kts"), "kotlin"),
    **dict.fromkeys(("tf", "hcl"), "hcl"),
    **dict.fromkeys(("ini", "cfg", "conf"), "ini"),
    **{name: name for name in "jsx tsx vue css scss json toml sql xml go java php rust swift dockerfile".split()},
    "rs": "rust",
    "rb": "ruby",
    "cs": "csharp",
    "md": "markdown",
}
# What prints nothing and yet is no control character: fillers, and selectors of variants, in which text can be hidden.
_HIDDEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_REFERENCES = re.compile(
    r"(?<=\])(?=\()|(?<=#)(?=(?:file|tool):)|(?<=\$)(?=\{(?:input:|workspace|selection|selectedText|file))",
    re.IGNORECASE,
)
# What would make a line that begins with it anything but a paragraph.
_BLOCK = re.compile(r"`{3}|~{3}|#{1,6}(?:\s|$)|[-+*](?:\s|$)|(?:[-_*=]\s*){2,}$|[>|<\[]")
_BACKTICKS = re.compile("`+")


def show(text: str, limit: int = LINE) -> str:
    """`text` as one line of at most `limit` characters, what cannot be seen as its escape, references taken apart."""
    # Cut before the work is done, and again after it: escapes are longer than what they stand for.
    line = _cut(text, limit + 1).replace("\t", "    ")
    if not line.isprintable() or not line.isascii():
        line = "".join(letter if letter.isprintable() else _escape(letter) for letter in line)
        line = _HIDDEN.sub(lambda found: _escape(found[0]), line)
    return _cut(_REFERENCES.sub(" ", line), limit)


def prose(text: str, limit: int) -> str:
    """`text` of a rule or a persona as one line: white space folded, nothing that starts a comment or a reference."""
    return show(" ".join(text.split()), limit).replace("<!--", "< !--").replace("-->", "-- >")


def paragraph(text: str) -> str:
    """A line of prose that begins no heading, list, fence or anything else, wherever it is put."""
    return f"\\{text}" if _BLOCK.match(text) else re.sub(r"^(\d+)(?=[.)](?:\s|$))", r"\1\\", text)


def sentences(text: str, limit: int) -> str:
    """As many whole sentences at the start of `text` as fit into `limit` characters, at least the first, cut."""
    kept = ""
    for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z\"'`])", " ".join(text.split())):
        longer = f"{kept} {sentence}".strip()
        if len(longer) > limit:
            break
        kept = longer
    return prose(kept or text, limit)


def code(text: str, limit: int = LINE) -> str:
    """`text` as a code span, whatever backticks it holds."""
    shown = show(text, limit)
    ticks = "`" * (_longest_run(shown) + 1)
    padding = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{ticks}{padding}{shown}{padding}{ticks}"


def fence(lines: Iterable[str], language: str = "") -> str:
    """`lines`, shown, between fences that are longer than any run of backticks in them."""
    shown = list(lines)
    ticks = "`" * max(3, _longest_run("\n".join(shown)) + 1)
    return "\n".join((f"{ticks}{language}", *shown, ticks))


def link(path: str, line: int | None = None, *, base: str = "") -> str:
    """A link to a file at `path`, or to a line of it; `base` leads from where the link stands to the root.

    A path that is too long to be one is shown and not linked.
    """
    text, anchor = (path, "") if line is None else (f"{path}:{line}", f"#L{line}")
    target = quote(path, safe="/._-~+@,=", errors="replace")
    return f"[{code(text)}]({base}{target}{anchor})" if len(target) <= 2 * LINE else code(text)


def language(path: str) -> str:
    """What a fence calls the language of the file at `path`; empty if it is not known."""
    name = path.rpartition("/")[2].lower()
    if name.startswith(("dockerfile", "containerfile")):
        return "dockerfile"
    return _LANGUAGES.get(name.rpartition(".")[2], "")


def shell_word(path: str) -> str | None:
    """`path` as one word of a command line, or None if it is no name to be typed."""
    if path != show(path) or path.startswith("~"):
        return None
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode()


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _longest_run(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
