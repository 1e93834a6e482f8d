"""A package of analyzers that somebody else wrote badly, installed in a folder: each rule says what happens.

`install` writes its module and its entry points, as pip would. The rule's configuration has `do`, the name of one of
the deeds, and `on`, a text that a file must hold for it to be done.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

_MODULE = '''
from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from pathlib import Path

from plugins.contract import Finding, PartialFailure

kept = []


def place(source, rule, **fields):
    values = dict(rule=rule.name, path=source.path, start_line=1, start_column=1, end_line=1, end_column=2, message="m")
    return Finding(**{**values, **fields})


def sleep(source, rule):
    time.sleep(3600)


def sleep_long(source, rule):
    """Beyond the time of any test."""
    end = time.monotonic() + 3600
    while time.monotonic() < end:
        time.sleep(0.1)


def leak(source, rule):
    kept.append(bytearray(25 << 20))
    return []


def exit_process(source, rule):
    os._exit(3)


def exit_python(source, rule):
    sys.exit("enough")


def segfault(source, rule):
    ctypes.string_at(0)


def abort(source, rule):
    sys.stderr.write("the last words\\n")
    sys.stderr.flush()
    os.abort()


def abort_with_nul(source, rule):
    os.write(2, b"nothing\\0that a database stores\\n")
    os.abort()


def claim_to_prepare(source, rule):
    find_worker()._reporter._pulse.write(1, -1)
    os._exit(6)


def fail_much(source, rule):
    yield place(source, rule)
    for number in range(150):
        yield PartialFailure(f"cannot {number}", path=source.path, rule=f"{rule.name}-{number}")


def raise_base(source, rule):
    raise BaseException("no Exception at all")


def interrupt(source, rule):
    raise KeyboardInterrupt


def eat(source, rule):
    while True:
        kept.append(bytearray(8 << 20))


def eat_and_return(source, rule):
    return [bytearray(1 << 34)]


def print_much(source, rule):
    os.write(1, b"")
    for _ in range(10):
        print("x" * (1 << 20))
    return [place(source, rule)]


def return_text(source, rule):
    return "a text"


def return_nothing(source, rule):
    return None


def find_elsewhere(source, rule):
    return [place(source, rule, path="other.py")]


def find_much(source, rule):
    return (place(source, rule, start_column=number, end_column=number) for number in range(1, 10_000_000))


def find_odd_types(source, rule):
    return [place(source, rule, start_line=1.0, end_line=True)]


def find_long(source, rule):
    return [place(source, rule, message="x" * 10_000_000)]


def close_files(source, rule):
    os.closerange(0, 1000)
    return []


def swap_files(source, rule):
    os.closerange(3, 1000)
    for number in range(3, 20):
        os.open(os.devnull, os.O_RDWR)
    return []


def write_rubbish(source, rule):
    for number in range(3, 300):
        for rubbish in (b"[[[[\\n", b"and without an end"):
            try:
                os.write(number, rubbish)
            except OSError:
                pass
    return [place(source, rule)]


def find_worker():
    return next(each for each in gc.get_objects() if type(each).__name__ == "_Worker")


def lie(source, rule):
    find_worker()._say("file", 1, 0, [[["nobody", 1, 1, 1, 1, "m", "s", "", False]], [], [], [], [], []])
    find_worker()._say("done", 99, {}, False)
    return []


def lie_nonsense(source, rule):
    find_worker()._say({"deep": [[[]]]}, 1e999)
    return []


def lie_and_point(source, rule):
    # As if it were heard only when the worker asks the next analyzer about the next file.
    worker = find_worker()
    worker._reporter._pulse.write(2, 0, 1, 2)
    worker._say({"deep": [[[]]]}, 1e999)
    worker._answers.flush()
    time.sleep(60)


def end_later(source, rule):
    def end():
        find_worker()._reporter.rest()
        os._exit(5)

    find_worker()._check_memory = end
    return []


def fork(source, rule):
    if os.fork() == 0:
        time.sleep(3600)
    return [place(source, rule)]


def fork_and_return(source, rule):
    os.fork()
    return [place(source, rule)]


def fork_and_die(source, rule):
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(4)


def leave_daemon(source, rule):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            sleep = "import time; time.sleep(3600)"
            os.execv(sys.executable, [sys.executable, "-c", sleep, rule.configuration["mark"]])
        os._exit(0)
    return [place(source, rule)]


def look_around(source, rule):
    text = "; ".join(f"{name}={value}" for name, value in sorted(os.environ.items()))
    return [place(source, rule, message=f"{os.getcwd()} {'django' in sys.modules} {text}")]


def fail_partly(source, rule):
    return [place(source, rule), PartialFailure("the second half is missing", rule=rule.name)]


def see_credential(source, rule):
    number = source.content[: source.content.find(b"hunter2")].count(b"\\n") + 1
    return [place(source, rule, start_line=number, end_line=number, snippet="h***", sensitive=True)]


def mark_time(source, rule):
    with open(rule.configuration["log"], "a") as log:
        log.write(source.path + "\\n")
    return [place(source, rule)]


class Foreign:
    """Does what its rules say."""

    name = title = description = "foreign"
    version = "1"
    requires = ()
    configuration_schema = {"type": "object"}
    rule_schema = {"type": "object"}
    seconds_per_file = 2

    def check_rule(self, rule):
        pass

    def prepare(self, rules, configuration):
        if "prepare" in configuration:
            globals()[configuration["prepare"]](None, None)

    def analyze(self, source, rules):
        for rule in rules:
            if rule.configuration.get("on", "").encode() in source.content:
                yield from globals()[rule.configuration["do"]](source, rule)


class Other(Foreign):
    """The same under another name, with more time."""

    name = "other"
    seconds_per_file = 60


class Woods(Foreign):
    """Looks at the tree."""

    name = "woods"
    seconds_per_tree = 3
    analyze = None

    def analyze_tree(self, tree, rules):
        for rule in rules:
            do = rule.configuration["do"]
            if do == "read":
                for file in tree.files:
                    content = tree.read(file)
                    said = "no text" if content is None else f"{len(content)} bytes"
                    yield Finding(rule.name, file.path, 1, 1, 1, 1, f"{file.size}: {said}")
            elif do == "find":
                for values in rule.configuration["findings"]:
                    yield Finding(rule.name, *values)
            elif do == "fail_partly":
                yield PartialFailure("cannot parse", path="a.py", rule=rule.name)
            elif do == "log":
                with open(rule.configuration["log"], "a") as log:
                    log.write("tree\\n")
                yield Finding(rule.name, tree.files[0].path, 1, 1, 1, 1, "seen")
            else:
                yield from globals()[do](None, rule)
'''


def install(folder: Path) -> Path:
    """Put the package into `folder`, which then is one that modules are found in."""
    (folder / "foreign_analyzers.py").write_text(dedent(_MODULE))
    information = folder / "foreign_analyzers-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-analyzers\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[code_review.analyzers]\n"
        + "".join(f"{name.lower()} = foreign_analyzers:{name}\n" for name in ("Foreign", "Other", "Woods"))
    )
    return folder
