"""The documentation site is built without a complaint, offline, and shows what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlparse

import pytest

from sam2vss_ros.config import OPTIONS
from sam2vss_ros.pipeline import VssPipeline

PLACES = ("href", "src")


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build the site strictly (which -q would undo); a look at the network would go nowhere."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config)]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    return subprocess.run(
        [*command, "-d", str(out)],
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as files."""
    out = tmp_path_factory.mktemp("site")
    done = build(root / "mkdocs.yml", out)
    assert done.returncode == 0, done.stderr
    return out


class Links(HTMLParser):
    """What a page refers to, the ids that it has, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in PLACES:
                self.targets.append(value)
                if tag in ("img", "link", "script"):
                    self.loaded.append(value)
            elif value and name == "id":
                self.ids.add(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(page: Path) -> str:
    return Links(page).text


def test_every_page_of_docs_is_in_the_navigation(site: Path, root: Path) -> None:
    home = Links(site / "index.html")
    for path in (root / "docs").rglob("*.md"):
        uri = path.relative_to(root / "docs").with_suffix("").as_posix()
        assert "." if uri == "index" else f"{uri}/" in home.targets, path


def test_links_lead_somewhere(site: Path) -> None:
    """Also those of the README's sections, which were written for another place."""
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) > 25
    for page, links in pages.items():
        for target in links.targets:
            parts = urlparse(target)
            if parts.scheme or parts.netloc:
                continue
            file = (page.parent / parts.path).resolve() if parts.path else page
            file = file / "index.html" if file.is_dir() else file
            assert file.is_file(), f"{page.relative_to(site)}: {target}"
            if parts.fragment and file in pages:
                assert parts.fragment in pages[file].ids, f"{page.relative_to(site)}: {target}"


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for target in Links(page).loaded:
            assert not urlparse(target).netloc or "canonical" in target, f"{page}: {target}"


def test_reference_is_that_of_the_code(site: Path, root: Path) -> None:
    parameters = text_of(site / "reference/parameters/index.html")
    assert all(name in parameters for name in OPTIONS)
    commands = text_of(site / "reference/commands/index.html")
    for command in ("run", "evaluate", "bag label", "train semantics", "bench speed"):
        assert f"usage: sam2vss {command}" in commands
    messages = text_of(site / "reference/messages/index.html")
    for path in [*root.glob("msg/*.msg"), *root.glob("srv/*.srv")]:
        assert f"{path.parent.name}/{path.stem}" in messages
        assert path.read_text(encoding="utf-8").splitlines()[-1] in messages
    python = text_of(site / "reference/python/index.html")
    public = [name for name in vars(VssPipeline) if not name.startswith("_")]
    assert all(re.search(rf"def {name}\(", python) for name in public)
    assert "def _" not in python.replace("def __init__", "")
    examples = text_of(site / "examples/index.html")
    assert all(path.name in examples for path in root.glob("examples/*.py"))


def test_sections_of_the_readme_are_shown(site: Path) -> None:
    assert "ros2 launch sam2vss_ros vss.launch.py" in text_of(site / "start/index.html")
    assert "~/label_image" in text_of(site / "reference/topics/index.html")
    for page in site.rglob("*.html"):
        assert "<!-- README" not in page.read_text(encoding="utf-8"), page


def test_a_page_that_links_to_nothing_fails_by_name(root: Path, tmp_path: Path) -> None:
    """Or the other tests here would say little."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# A page\n\n[gone](gone.md)\n", encoding="utf-8")
    config = tmp_path / "mkdocs.yml"
    config.write_text("site_name: test\ntheme: {name: material}\n", encoding="utf-8")
    done = build(config, tmp_path / "site")
    assert done.returncode == 1
    assert "gone.md" in done.stdout + done.stderr


def test_the_model_card_is_read_in_two_minutes(root: Path) -> None:
    """At 250 words a minute, with every weight of the package in it."""
    card = (root / "sam2vss_ros/weights/README.md").read_text(encoding="utf-8")
    words = re.findall(r"[A-Za-z]{2,}", card)
    assert len(words) <= 500
    for path in (root / "sam2vss_ros/weights").glob("*.safetensors"):
        assert path.name in card
