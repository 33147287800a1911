"""The documentation site: what `mkdocs build` adds to docs/.

Pages of reference are made from the code, a line `<!-- README: Limits -->` becomes that section of
the README, and links to files outside docs/ lead to copies of them on the site. A page that
mkdocs.yml does not name goes under "More".
"""

from __future__ import annotations

import argparse
import ast
import os
import posixpath
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from sam2vss_ros.cli import make_parser
from sam2vss_ros.commands.config import parameter_table

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = {"SECURITY.md": "security.md", "sam2vss_ros/weights/README.md": "model-card.md"}
"""Files of the repository that are pages: where they are, and where on the site."""

API = ("pipeline.py", "perception.py", "types.py", "config.py", "errors.py")
COLUMNS = "100"  # of the help texts
LONGEST = 60  # characters of arguments in one line

SECTION = re.compile(r"^<!-- README: (.+) -->$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)(#[^)\s]*)?(?=\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages that nobody has put into the navigation."""
    named = set(_leaves(config.nav))
    others = sorted(_uri(path) for path in DOCS.rglob("*.md") if _uri(path) not in named)
    if others and config.nav is not None:
        config.nav = [*config.nav, {"More": others}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of reference, the pages from elsewhere, and what pages link to."""
    pages = {
        "reference/parameters.md": f"# Parameters\n\n{_introduction()}\n\n{parameter_table()}",
        "reference/commands.md": _commands(),
        "reference/messages.md": _messages(),
        "reference/python.md": _python(),
        "examples.md": _examples(),
    }
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    for path, uri in ELSEWHERE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    linked = {target for text, base in _texts(files) for target, _ in _targets(text, base)}
    for target in sorted(linked - ELSEWHERE.keys() - {"README.md"}):
        if not target.startswith("docs/") and (ROOT / target).is_file():
            copy = File.generated(config, _copy_of(target), abs_src_path=str(ROOT / target))
            files.append(copy)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the README's sections in, and turn links to files of the repository into the site's."""
    uri = page.file.src_uri

    def section(found: re.Match[str]) -> str:
        text = _relinked(_section(found[1]), ROOT, uri)
        # The page's own title need not be said twice.
        twice = f"# {found[1]}\n" in markdown
        return re.sub(r"^#+ .*\n", "", text) if twice else text

    return SECTION.sub(section, _relinked(markdown, _base(page.file), uri))


# Links.


def _texts(files: Files) -> Iterator[tuple[str, Path]]:
    """The Markdown of all pages, and the folder that its links start from."""
    yield README, ROOT
    for file in files.documentation_pages():
        yield file.content_string, _base(file)


def _base(file: File) -> Path:
    """The folder in the repository that the links of a page start from."""
    homes = {uri: path for path, uri in ELSEWHERE.items()}
    return (ROOT / homes.get(file.src_uri, f"docs/{file.src_uri}")).parent


def _targets(text: str, base: Path) -> Iterator[tuple[str, str]]:
    """The paths in the repository that a text links to, and their anchors (`#...`, or empty)."""
    for found in LINK.finditer(FENCE.sub("", text)):
        yield _path(found[1], base), found[2] or ""


def _path(link: str, base: Path) -> str:
    return Path(os.path.normpath(base / link)).relative_to(ROOT).as_posix()


def _relinked(text: str, base: Path, uri: str) -> str:
    """The text as it stands on the page `uri`; `base` is where its links started from."""

    def moved(found: re.Match[str]) -> str:
        target, anchor = _path(found[1], base), found[2] or ""
        if target == "README.md":
            place = _readme_pages().get(anchor.removeprefix("#"), "index.md")
        elif target in ELSEWHERE:
            place = ELSEWHERE[target]
        elif target.startswith("docs/"):
            place = target.removeprefix("docs/")
        elif (ROOT / target).is_file():
            place = _copy_of(target)
        else:
            raise PluginError(f"{uri}: links to {target}, which is no file of the repository")
        return posixpath.relpath(place, posixpath.dirname(uri)) + anchor

    return LINK.sub(moved, text)


def _copy_of(target: str) -> str:
    # As text, since Markdown would become a page; MkDocs leaves out what begins with a dot.
    return f"files/{target.removeprefix('.')}.txt"


def _uri(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def _leaves(nav: object) -> Iterator[str]:
    """The pages that a navigation names."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict | list):
        for child in nav.values() if isinstance(nav, dict) else nav:
            yield from _leaves(child)


# The README.


def _section(title: str) -> str:
    """A section of the README with its heading, up to the next `##`."""
    found = re.search(
        rf"^(##? {re.escape(title)}\n.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise PluginError(f"README.md has no section {title!r}, which a page of docs/ shows")
    return found[1]


def _readme_pages() -> dict[str, str]:
    """Which page shows a heading of the README, by its anchor."""
    shown = {"parameters": "reference/parameters.md"}
    for path in DOCS.rglob("*.md"):
        for title in SECTION.findall(path.read_text(encoding="utf-8")):
            for heading in HEADING.findall(FENCE.sub("", _section(title))):
                shown[slugify(heading, "-")] = _uri(path)
    return shown


def _introduction() -> str:
    """What the README says before its table of parameters."""
    return _section("Parameters").split("\n\n")[1]


# Reference.


def _commands() -> str:
    """Every command with the text of its --help."""
    os.environ["COLUMNS"] = COLUMNS
    parts = ["# Commands\n\nWhat `--help` prints, after `. scripts/env.sh`."]
    for parser in _parsers(make_parser()):
        parts.append(f"## {parser.prog}\n\n```text\n{parser.format_help().rstrip()}\n```")
    return "\n\n".join(parts)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands, as deep as they go."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _parsers(child)


def _messages() -> str:
    """The interfaces, as their files define and explain them."""
    parts = ["# Messages and services\n\nTheir files are in `msg/` and `srv/`."]
    for path in [*sorted(ROOT.glob("msg/*.msg")), *sorted(ROOT.glob("srv/*.srv"))]:
        text = path.read_text(encoding="utf-8").rstrip()
        parts.append(f"## sam2vss_ros/{path.parent.name}/{path.stem}\n\n```text\n{text}\n```")
    return "\n\n".join(parts)


def _examples() -> str:
    """Every script of examples/."""
    parts = ["# Examples\n\nShort scripts to copy, in `examples/`. Each has `--help`."]
    for path in sorted((ROOT / "examples").glob("*.py")):
        code = path.read_text(encoding="utf-8").rstrip()
        purpose = ast.get_docstring(ast.parse(code))
        parts.append(f"## {path.name}\n\n{purpose}\n\n```python\n{code}\n```")
    return "\n\n".join(parts)


def _python() -> str:
    """The public classes and functions of the modules that programs use."""
    parts = [f"# Python API\n\n{_example()}"]
    for name in API:
        tree = ast.parse((ROOT / "sam2vss_ros" / name).read_text(encoding="utf-8"))
        parts.append(f"## sam2vss_ros.{name.removesuffix('.py')}\n\n{ast.get_docstring(tree)}")
        parts += [part for node in _public(tree) for part in _described(node, "###")]
    return "\n\n".join(parts)


def _example() -> str:
    """The README's few lines of Python."""
    return next(f for f in FENCE.findall(README) if f.startswith("```python\nfrom sam2vss_ros"))


def _public(tree: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def _described(node: ast.ClassDef | ast.FunctionDef, level: str) -> Iterator[str]:
    """Heading, signature and docstring of a class with its methods, or of a function."""
    yield f"{level} {node.name}"
    yield f"```python\n{_signature(node)}\n```"
    if text := ast.get_docstring(node):
        yield text
    if isinstance(node, ast.ClassDef):
        for method in _public(node):
            yield from _described(method, level + "#")


def _signature(node: ast.ClassDef | ast.FunctionDef) -> str:
    if isinstance(node, ast.FunctionDef):
        decorators = "".join(f"@{ast.unparse(d)}\n" for d in node.decorator_list)
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        arguments = ast.unparse(node.args)
        if len(arguments) > LONGEST:
            arguments = "\n    " + ",\n    ".join(_parts(arguments)) + ",\n"
        return f"{decorators}def {node.name}({arguments}){returns}"
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    fields = [ast.unparse(f) for f in node.body if isinstance(f, ast.AnnAssign)]
    start = next(
        (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None
    )
    lines = [f"class {node.name}({bases}):" if bases else f"class {node.name}:"]
    lines += [f"    {line}" for line in fields if "option(" not in line]
    lines += [textwrap.indent(_signature(start), "    ")] if start else []
    return "\n".join(lines)


def _parts(arguments: str) -> list[str]:
    """The arguments of a signature, divided where a comma stands in no brackets."""
    parts = [""]
    for piece in arguments.split(", "):
        whole = all(parts[-1].count(a) == parts[-1].count(b) for a, b in ("()", "[]", "{}"))
        parts = [*parts, piece] if whole else [*parts[:-1], f"{parts[-1]}, {piece}"]
    return parts[1:]
