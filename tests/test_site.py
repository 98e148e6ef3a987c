"""The site: its menu, what it says of versions and floors, and that it builds without a warning."""

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from diffsmooth import __version__

REPOSITORY = Path(__file__).parents[1]
OUTSIDE = "repository/"  # in the site, of what lies outside of docs/
CITATION = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|object|embed)\b[^>]*?(?:src|href|data)=(\S+)"
)


def places(menu: object) -> list[str]:
    """The pages of a part of the menu."""
    if isinstance(menu, str):
        return [menu]
    parts = menu.values() if isinstance(menu, dict) else menu
    return [place for part in parts for place in places(part)]  # type: ignore[union-attr]


MENU = places(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"])


def test_the_menu_has_files_that_exist_once_each() -> None:
    for place in MENU:
        path = place.removeprefix(OUTSIDE) if place.startswith(OUTSIDE) else f"docs/{place}"
        assert (REPOSITORY / path).is_file(), place
    assert len(set(MENU)) == len(MENU)


def test_every_page_and_notebook_is_in_the_menu() -> None:
    docs = REPOSITORY / "docs"
    pages = {str(p.relative_to(docs)) for kind in ("md", "ipynb") for p in docs.rglob(f"*.{kind}")}
    assert pages <= set(MENU)


def test_the_citation_names_the_paper_and_this_version() -> None:
    assert CITATION["version"] == __version__
    assert CITATION["authors"] == [{"name": author_of_the_package()}]
    paper = CITATION["preferred-citation"]
    page = (REPOSITORY / "docs/cite.md").read_text()
    names = [f"{author['given-names']} {author['family-names']}" for author in paper["authors"]]
    assert f"{{{' and '.join(names)}}}" in page
    assert (
        paper["title"]
        == "DiffSmooth: Certifiably Robust Learning via Diffusion Models and Local Smoothing"
    )
    assert f"{{{paper['title'].replace('DiffSmooth', '{DiffSmooth}')}}}" in page
    assert f"{{{paper['start']}--{paper['end']}}}" in page
    for said in (paper["collection-title"], paper["year"], paper["url"], __version__):
        assert f"{{{said}}}" in page


def author_of_the_package() -> str:
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    return config["metadata"]["author"]


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search("^## (.*)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first
    assert first[1].startswith(f"{__version__} (")


def test_the_house_has_the_rooms_of_the_import_contract() -> None:
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    drawn = (REPOSITORY / "docs/pictures/house.svg").read_text()
    for contract in ("floors", "rooms"):
        layers = config[f"importlinter:contract:{contract}"]["layers"]
        for room in re.findall(r"\w+", layers):
            assert re.search(rf">[\w |]*\b{room}\b", drawn), room


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(find_spec, ("mkdocs", "material", "mkdocstrings"))),
    reason="MkDocs, its theme and mkdocstrings are not here (the extra `docs`)",
)
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    nowhere = "http://127.0.0.1:9"  # whatever is asked for is not there
    environment = os.environ | {"HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere}
    environment["NO_MKDOCS_2_WARNING"] = "1"  # the theme's word on its own future
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = list(tmp_path.rglob("*.html"))
    for place in MENU:
        place = re.sub(
            r"(README|index)\.md$|\.(md|ipynb)$",
            lambda end: "index.html" if end[1] else ".html",
            place,
        )
        assert tmp_path / place in pages
    for path in pages:
        for address in LOADED.findall(path.read_text()):
            assert not re.match(r"""["']?(https?:)?//""", address), f"{path.name}: {address}"
    for path in tmp_path.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", path.read_text()), path.name
    table = (tmp_path / "checkpoints.html").read_text()
    assert '<span class="option">--unsafe_load</span>' in table  # does not break at its hyphens
    index = json.loads((tmp_path / "search/search_index.json").read_text())
    assert any("Clopper-Pearson" in entry["text"] for entry in index["docs"])
