"""Hooks of MkDocs: pages of what lies outside of docs/, of notebooks, and GitHub's Markdown.

Links are written as the code host wants them, relative in the repository. In the site a file FILE
outside of docs/ is repository/FILE, and a page if it is Markdown; those that are in the navigation
or linked from a page are taken in. A notebook is a page of its name, beside the file itself.
"""

import html
import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
OUTSIDE = "repository/"  # in the site
LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(?=[)#])")
FENCE = re.compile(r"^ *```")
CODE = re.compile(r"<code>([^<]+)</code>")
OPTION = re.compile(r"(?<![\w-])--[\w-]+")
BLOCK = re.compile(r"- |1\. |\||```")  # begins a list, a table or a block of code


def place_of(path: str) -> str:
    """Where a file of the repository is in the site, by its path in either."""
    if not path.startswith("docs/"):
        return OUTSIDE + path
    path = path.removeprefix("docs/")
    return f"{path.removesuffix('.ipynb')}.md" if path.endswith(".ipynb") else path


def path_of(place: str) -> str:
    """The other way round."""
    if place.startswith(OUTSIDE):
        return place.removeprefix(OUTSIDE)
    notebook = f"docs/{place.removesuffix('.md')}.ipynb"
    return notebook if (REPOSITORY / notebook).is_file() else f"docs/{place}"


def targets(markdown: str, path: str) -> Iterator[tuple[str, str]]:
    """The links of a page to files of the repository, and these files' paths."""
    for link in set(LINK.findall(markdown)):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
        if (REPOSITORY / target).is_file():
            yield link, target


def on_config(config: MkDocsConfig) -> None:
    """The navigation names notebooks by their files."""
    text = json.dumps(config.nav)
    config.nav = json.loads(re.sub(r"\.ipynb\b", ".md", text))


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Takes in the notebooks' pages, and what lies outside of docs/."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            page = notebook_page(Path(str(file.abs_src_path)))
            place = place_of(f"docs/{file.src_uri}")
            files.append(File.generated(config, place, content=page))
    known = set(re.findall(rf'"{OUTSIDE}([^"]+)"', json.dumps(config.nav)))
    waiting = [file.src_uri for file in files.documentation_pages()]
    waiting += [OUTSIDE + path for path in sorted(known)]
    while waiting:
        path = path_of(waiting.pop())
        source = REPOSITORY / path
        if not path.startswith("docs/"):
            files.append(File.generated(config, OUTSIDE + path, abs_src_path=str(source)))
        if source.suffix not in (".md", ".ipynb"):
            continue
        for _, target in targets(source.read_text(encoding="utf-8"), path):
            if not target.startswith("docs/") and target not in known:
                known.add(target)
                waiting.append(OUTSIDE + target)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the site, and the blank lines that GitHub does without."""
    place = page.file.src_uri
    path = path_of(place)
    links = {
        link: os.path.relpath(place_of(target), posixpath.dirname(place) or ".")
        for link, target in targets(markdown, path)
    }
    markdown = LINK.sub(lambda found: links.get(found[0], found[0]), markdown)
    return blocks_apart(markdown)


def blocks_apart(markdown: str) -> str:
    """A blank line before each list, table and block of code that follows a line of text."""
    lines: list[str] = []
    in_code = False
    for line in markdown.splitlines():
        before = lines[-1] if lines and not in_code else ""
        begins = BLOCK.match(line)
        if begins and before[:1] not in ("", " ") and not before.startswith(begins[0].strip()):
            lines.append("")
        lines.append(line)
        in_code ^= bool(FENCE.match(line))
    return "\n".join(lines) + "\n"


def notebook_page(path: Path) -> str:
    """A notebook's cells and what they gave, as Markdown."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for number, cell in enumerate(notebook["cells"]):
        text = "".join(cell["source"]).rstrip()
        code = cell["cell_type"] == "code"
        parts.append(f"```python\n{text}\n```" if code else text)
        if not number:  # below the title
            parts.append(f'<p><a href="{path.name}" download>This notebook as a file</a></p>')
        parts += [shown for output in cell.get("outputs", []) if (shown := output_html(output))]
    return "\n\n".join(parts) + "\n"


def output_html(output: dict[str, Any]) -> str:
    """What one output of a cell looks like; "" for those without anything to see."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    text = {kind: "".join(value) for kind, value in data.items() if isinstance(value, str | list)}
    if "image/png" in text:
        return f'<p><img alt="figure" src="data:image/png;base64,{text["image/png"].strip()}"></p>'
    if "text/html" in text:
        table = re.sub(r"<style.*?</style>|border=\"1\" class=\"dataframe\"", "", text["text/html"],
                       flags=re.DOTALL)  # fmt: skip
        return re.sub(r"\n\s*", "", table)
    plain = html.escape(text.get("text/plain", "").rstrip()).replace("\n", "&#10;")
    return f'<pre class="output"><code>{plain}</code></pre>' if plain else ""


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Options stay on one line: browsers break behind their hyphens."""
    whole = r'<span class="option">\g<0></span>'
    return CODE.sub(lambda code: OPTION.sub(whole, code.group(0)), content)
