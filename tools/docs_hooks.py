"""Hooks of MkDocs for the site (``mkdocs.yml``): what is generated, and what nav leaves open.

- The commands and their options come from the parsers of `vnp.cli`, as ``--help`` prints them.
- Notebooks of ``docs/notebooks`` become pages; the files themselves can be fetched from them.
- ``README.md`` is the home page; other files that a page links to are taken along.
- A pattern in the nav stands for all pages that it matches and no other entry names.
"""

from __future__ import annotations

import argparse
import fnmatch
import html
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Files outside docs/ by the name that they have in the site: as if docs/ were the root.
PAGES = {"README.md": "index.md"} | {name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md")}
COMMANDS = re.compile(r"<!-- commands: .*-->")
# A link of Markdown: [text](target#anchor). Images are links too.
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^()\s#]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files outside docs/ that pages link to."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        text = (ROOT / name).read_text()
        files.append(File.generated(config, page, content=linked(text, name)))
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        content = notebook_page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=content))
    known = {file.src_uri for file in files}
    for file in sorted(outside_files(files.documentation_pages())):
        if file not in known:
            files.append(File.generated(config, file, abs_src_path=str(ROOT / file)))
    named = set(_named(config.nav))
    pages = [file.src_uri for file in files.documentation_pages()]
    config.nav = list(_expanded(config.nav, sorted(set(pages) - named)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Write the commands out, and point links out of docs/ to where their files are in the site."""
    if page.file.src_uri in PAGES.values() or page.file.src_uri.startswith("notebooks/"):
        return markdown  # links are those of the site already
    if COMMANDS.search(markdown):
        return COMMANDS.sub(lambda _: commands(), markdown)
    return linked(markdown, f"docs/{page.file.src_uri}")


def linked(markdown: str, source: str) -> str:
    """Rewrite the relative links of a file of the repository as links between pages of the site."""
    here = posixpath.dirname(in_site(source))

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        return posixpath.relpath(in_site(target), here or ".")

    return LINK.sub(moved, markdown)


def in_site(path: str) -> str:
    """Name in the site of a file of the repository; a notebook's is that of its page."""
    path = PAGES.get(path, path.removeprefix("docs/"))
    return f"{path.removesuffix('.ipynb')}.md" if path.endswith(".ipynb") else path


def outside_files(pages: Any) -> Iterator[str]:
    """Yield the files outside docs/ that pages of it link to, if they exist."""
    for page in pages:
        if page.src_uri in PAGES.values() or page.generated_by:
            continue
        folder = posixpath.dirname(f"docs/{page.src_uri}")
        for target in LINK.findall(page.content_string):
            path = posixpath.normpath(posixpath.join(folder, target))
            inside = path.startswith(("docs/", ".."))
            if not inside and path not in PAGES and (ROOT / path).is_file():
                yield path


def _named(entries: Any) -> Iterator[str]:
    """Yield the pages that a nav names."""
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from _named(value) if isinstance(value, list) else [value]


def _expanded(entries: Any, rest: list[str]) -> Iterator[Any]:
    """Replace patterns by the pages that they match among those that nothing else names."""
    for entry in entries:
        title, value = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(value, list):
            yield {title: list(_expanded(value, rest))}
        elif "*" in value:
            depth = value.count("/")
            found = [p for p in rest if p.count("/") == depth and fnmatch.fnmatch(p, value)]
            yield from [{title: found}] if title else found
        else:
            yield entry


def notebook_page(path: Path) -> str:
    """Cells of a notebook as a page; it has no outputs, for it is run by a test."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    about = f"This page is the notebook [{path.name}]({path.name})."
    title, _, rest = parts[0].partition("\n")
    return "\n\n".join([title, about, rest.strip(), *parts[1:]])


def commands() -> str:
    """Every command with all its options, from the parsers."""
    from vnp.cli.main import COMMANDS, parser

    lines = ["| command | |", "|---|---|"]
    lines += [f"| [`vnp {name}`](#vnp-{name}) | {about} |" for name, about in COMMANDS.items()]
    for name in COMMANDS:
        lines += ["", *command_section(subcommands(parser(name))[name], f"vnp {name}", depth=3)]
    return "\n".join(lines)


def subcommands(command: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Commands that a parser has, by name; empty if it has none."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def command_section(command: argparse.ArgumentParser, name: str, depth: int) -> Iterator[str]:
    """Usage, arguments and options of a command, then its subcommands."""
    yield f"{'#' * depth} {name}"
    yield ""
    formatter = argparse.HelpFormatter(prog=name, width=100)
    formatter.add_usage(command.usage, command._actions, command._mutually_exclusive_groups)
    yield f"{text(command.description or '')}\n"
    yield f"```text\n{formatter.format_help().strip()}\n```\n"
    yield "| argument | |"
    yield "|---|---|"
    for action in command._actions:
        if action.help != argparse.SUPPRESS and not isinstance(
            action, (argparse._HelpAction, argparse._SubParsersAction)
        ):
            yield f"| `{_invocation(action)}` | {text(_help(action, command))} |"
    if command.epilog:
        yield f"\n{text(command.epilog)}"
    for sub, parser in subcommands(command).items():
        yield ""
        yield from command_section(parser, f"{name} {sub}", depth + 1)


def _invocation(action: argparse.Action) -> str:
    formatter = argparse.HelpFormatter(prog="")
    return formatter._format_action_invocation(action).replace("|", "\\|")


def _help(action: argparse.Action, command: argparse.ArgumentParser) -> str:
    return command._get_formatter()._expand_help(action) if action.help else ""


def text(words: str) -> str:
    """Words of a help text as Markdown that shows them as they are."""
    return re.sub(
        r"([\\`*_{}\[\]<>#|])", r"\\\1", html.escape(" ".join(words.split()), quote=False)
    )
