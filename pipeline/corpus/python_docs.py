"""The embedded corpus: what every CPython carries about itself. No download.

First the language reference (`pydoc_data.topics`), then the docstrings of modules written in C, then the sources of the
standard library, with docstrings inside them. It differs between Python versions, as Python does.
"""

import importlib
import os
import sysconfig
from pathlib import Path

from pipeline.config import BadInput
from pipeline.corpus.files import Input
from pipeline.corpus.hashing import hash_bytes

# Tests and vendored or generated folders: noise, or long tables, or not there in every build of Python.
_SKIPPED = {
    *("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3", "idlelib"),
    *("pydoc_data", "encodings", "ensurepip", "turtledemo", "lib-dynload", "__phello__"),
}
_C_MODULES = ("builtins", "time", "math", "cmath", "itertools", "array", "zlib", "binascii", "select", "unicodedata")
_REPLACED = {"input"}  # builtins that notebooks put their own in place of


def python_docs() -> list[Input]:
    """Reference and docstrings, then standard library sources in the order of their names' hashes, so that the first
    megabytes already hold something of every package.

    Raises:
        BadInput: this Python was installed without them.
    """
    sources = _sources(Path(sysconfig.get_path("stdlib")))
    if not sources:
        raise BadInput("corpus.source: python-docs, but this Python has no standard library sources; use source: text")
    return [*_reference(), *_docstrings(), *sorted(sources, key=lambda item: hash_bytes(item.name.encode()))]


def _sources(root: Path) -> list[Input]:
    inputs = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        # _sysconfigdata and its like hold the paths of the machine that built this Python.
        paths = [Path(folder, name) for name in names if name.endswith(".py") and not name.startswith("_sysconfig")]
        inputs += [Input(path.relative_to(root).as_posix(), path) for path in paths]
    return inputs


def _reference() -> list[Input]:
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise BadInput("corpus.source: python-docs, but this Python has no pydoc_data; use source: text") from error
    return [Input(f"reference/{name}", text=text.encode()) for name, text in sorted(topics.items())]


def _docstrings() -> list[Input]:
    inputs = []
    for name in _C_MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue  # an optional C module that this Python was built without
        parts = [f"{name}\n\n{module.__doc__}"]
        for member, value in sorted(vars(module).items()):
            # What others put into builtins (`_`, IPython's helpers) belongs to the session, not to Python.
            if member.startswith("_") or member in _REPLACED or getattr(value, "__module__", None) != name:
                continue
            parts += _documented(f"{name}.{member}", value)
            if isinstance(value, type):
                methods = sorted(
                    (key, it) for key, it in vars(value).items() if callable(it) and not key.startswith("_")
                )
                for method_name, method in methods:
                    parts += _documented(f"{name}.{member}.{method_name}", method)
        inputs.append(Input(f"docstrings/{name}", text="\n\n".join(parts).encode()))
    return inputs


def _documented(name: str, value: object) -> list[str]:
    text = getattr(value, "__doc__", None)
    return [f"{name}\n\n{text}"] if isinstance(text, str) and text else []
