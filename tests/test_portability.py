"""What runs on one system alone: not called, or looked for before it is."""

import ast
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nlaic as package
from nlaic.cli import compress, decompress
from tests.conftest import smooth_picture

SOURCES = sorted(Path(package.__file__).parent.rglob("*.py"))
# Python's documentation says "Availability: Unix" of these.
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = """
chown chroot confstr ctermid fchdir fchown fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp
getpriority getresuid getuid initgroups killpg lchown lockf major minor mkfifo mknod nice openpty pathconf pread pwrite
posix_fadvise posix_fallocate posix_spawn readv sched_getaffinity sched_setaffinity sched_yield sendfile setegid seteuid
setgid setpgid setpriority setsid setuid statvfs sync sysconf tcgetpgrp uname wait3 wait4 writev
O_ASYNC O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC O_TMPFILE WIFEXITED
"""
FUNCTIONS = set(NAMES.split())


def used(tree: ast.AST) -> set[str]:
    """Names of what is for Unix alone in a piece of code."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} & MODULES
            if node.module == "os":
                found |= {alias.name for alias in node.names} & FUNCTIONS
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            found |= {node.attr} & FUNCTIONS
    return found


def guarded(function: ast.AST) -> bool:
    """Whether it looks first, or expects that there is none."""
    text = ast.unparse(function)
    return "hasattr(os" in text or "except (AttributeError" in text or "except AttributeError" in text


def test_the_search_finds_what_it_is_for():
    assert used(ast.parse("import fcntl")) == {"fcntl"}
    assert used(ast.parse("from os import fork, path")) == {"fork"}
    assert used(ast.parse("x = os.sysconf(1); os.replace(a, b)")) == {"sysconf"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_what_is_for_unix_alone_is_looked_for_first(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    safe = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and guarded(node)]
    assert used(tree) == set().union(*map(used, safe))


def test_there_and_back_where_these_are_missing(tiny_model, tmp_path, monkeypatch):
    for name in FUNCTIONS:
        monkeypatch.delattr(os, name, raising=False)
    for name in MODULES - {"posix"}:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    smooth_picture(100, 70).save("a.png")
    there, back = ["a.png"], ["a.nlaic", "-o", "b.png"]
    for main, words in ((compress.main, there), (decompress.main, back)):
        with pytest.raises(SystemExit) as end:
            main([*words, "--model", str(tiny_model), "--quiet"])
        assert end.value.code == 0
    assert np.asarray(Image.open("b.png")).shape == (70, 100, 3)
