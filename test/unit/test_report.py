"""The report of an evaluation: one page that needs nothing else, figures, and a row per frame."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.evaluate import LabelledOutput, evaluate
from sam2vss_ros.evaluation.gallery import APART, PANEL_WIDTH, WorstFrames
from sam2vss_ros.evaluation.plots import POINTS, Series, line_chart, svg
from sam2vss_ros.evaluation.provenance import fingerprints, git_commit, provenance
from sam2vss_ros.evaluation.report import Report
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame, LabelledStream
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass
from sam2vss_ros.types import Frame

HEIGHT, WIDTH = 24, 40
STREET = ClassCatalog(
    "street",
    (
        SemanticClass(0, "Sky", (120, 160, 220), False),
        SemanticClass(1, "Road <wet> & dry", (90, 60, 90), False),
        SemanticClass(2, 'Car "parked"', (200, 20, 20), True),
        SemanticClass(3, "Train", (20, 200, 20), True),
    ),
    ignore_id=9,
)
NASTY = "<script>alert('a & b')</script>"


def drawn(index: int) -> np.ndarray:
    """(24, 40) ids: sky above a road, and a car that drives to the right."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[10:] = 1
    labels[8:14, 2 + index : 8 + index] = 2
    return labels


def frames(count: int) -> list[LabelledFrame | BrokenFrame]:
    """Images whose red channel says the ids; the second to last is broken, the last unlabelled."""
    items: list[LabelledFrame | BrokenFrame] = []
    for i in range(count):
        labels = drawn(i)
        frame = Frame(np.dstack([labels, labels * 80, labels * 0]), i * 100)
        items.append(LabelledFrame(frame, labels if i < count - 1 else None, f"f{i}"))
    items[-2] = BrokenFrame(NASTY, "cut short")
    return items


class Reader:
    """A labeller that reads the ids from the red channel and moves them to the right."""

    catalog = STREET

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def label(self, frames: Iterable[Frame]) -> Iterator[LabelledOutput]:
        for frame in frames:
            yield LabelledOutput(np.roll(frame.image[..., 0], self.shift, axis=1), 0.01)


class Page(HTMLParser):
    """Checks that tags close in order, and keeps texts, titles, ids and what is referred to."""

    VOID = {"meta", "img"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.deltas: list[tuple[str, str]] = []
        self.text = ""
        self._delta = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action"):
                self.references.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
            elif name == "title":
                self.titles.append(value or "")
            elif name == "class" and (value or "").startswith("delta"):
                self._delta = (value or "").removeprefix("delta ")
            assert not name.startswith("on"), name

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._delta:
            self.deltas.append((self._delta, data))
            self._delta = ""

    def images(self, kind: str) -> list[bytes]:
        """The embedded images of one kind."""
        start = f"data:image/{kind};base64,"
        return [
            base64.b64decode(r.removeprefix(start), validate=True)
            for r in self.references
            if r.startswith(start)
        ]


def write_report(folder: Path, shifts: dict[str, int]) -> dict[str, Any]:
    """Evaluate a variant for every shift on two streams; the document of the report."""
    streams = [
        LabelledStream(NASTY, 12, lambda: iter(frames(12))),
        LabelledStream("b", 7, lambda: iter(frames(7))),
    ]
    results = []
    with Report(folder, STREET) as report:
        for name, shift in shifts.items():
            labeller = Reader(shift)
            evaluation = evaluate(labeller, streams, STREET, report.watch(name, STREET))
            config = {"config": {"shift": shift}, "weights": fingerprints([Path(__file__)])}
            results.append({"name": name, **evaluation.as_json(), **config})
        document = {
            "variants": results,
            "source": f"frames of {NASTY}",
            "label_notes": [f"{NASTY} is doubtful"],
            "provenance": provenance(["sam2vss", "evaluate", "--images", "a b"]),
        }
        report.write(document, results, results[0]["name"])
    return document


SECTIONS = (
    "summary", "classes", "over-time", "worst-frames", "confusion", "frames", "rules",
    "to-repeat-it",
)  # fmt: skip


@pytest.mark.parametrize("shifts", [{"only": 1}, {"two": 2, NASTY: 1, "none": 0}])
def test_one_page_that_needs_nothing_else(tmp_path: Path, shifts: dict[str, int]) -> None:
    document = write_report(tmp_path / "new" / "report", shifts)
    html = (tmp_path / "new" / "report" / "index.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.ids == list(SECTIONS)
    assert "script" not in page.tags and "link" not in page.tags
    assert not re.search(r"https?://|url\(", html)
    for reference in page.references:
        assert reference.startswith(
            ("data:image/jpeg;base64,", "data:image/svg+xml;base64,", "#")
        ), reference[:40]
    assert [r[1:] for r in page.references if r.startswith("#")] == list(SECTIONS)
    assert 'content="width=device-width' in html, "a phone shows it in its own width"
    for text in (
        NASTY,
        f"Doubtful labels: {NASTY} is doubtful",
        *(c.name for c in STREET.classes),
        "sam2vss evaluate --images 'a b'",
    ):
        assert text in page.text
    for rule in document["variants"][0]["rules"].values():
        assert rule in page.text
    sha256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert page.text.count(sha256) == len(shifts)
    plots = page.images("svg+xml")
    assert len(plots) == 4, "mIoU and flicker of two streams, all variants in one"
    for plot in plots:
        assert ElementTree.fromstring(plot).tag == "{http://www.w3.org/2000/svg}svg"
    for picture in page.images("jpeg"):
        assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) is not None
    assert len(page.images("jpeg")) == 4 * 2 * len(shifts), "four panels, one frame a stream"


def test_json_is_the_document_and_csv_has_a_row_per_frame(tmp_path: Path) -> None:
    document = write_report(tmp_path, {"one": 1, "none": 0})
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(document))
    with (tmp_path / "frames.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    places = [(r["variant"], r["stream"], int(r["index"])) for r in rows]
    assert places == [
        (v, s, i) for v in ("one", "none") for s, n in ((NASTY, 12), ("b", 7)) for i in range(n)
    ]
    statuses = ["scored"] * 10 + ["failed", "unmatched"]
    assert [r["status"] for r in rows[:12]] == statuses
    assert rows[10]["frame"] == NASTY and rows[10]["failure"] == "cut short"
    assert rows[10]["miou"] == rows[11]["miou"] == rows[0]["flicker"] == ""
    assert {r["miou"] for r in rows if r["variant"] == "none" and r["status"] == "scored"} == {
        "1.000000"
    }
    assert rows[3]["stamp_ns"] == "300" and float(rows[3]["latency_ms"]) == 10.0


def test_deltas_are_signed_and_coloured_by_what_is_better(tmp_path: Path) -> None:
    write_report(tmp_path, {"two": 2, "none": 0})
    kinds = Page((tmp_path / "index.html").read_text(encoding="utf-8")).deltas
    assert kinds and {kind for kind, _ in kinds} <= {"better", "same"}
    assert any(kind == "better" and text.startswith("+") for kind, text in kinds)
    write_report(tmp_path, {"none": 0, "two": 2})
    kinds = Page((tmp_path / "index.html").read_text(encoding="utf-8")).deltas
    assert {kind for kind, _ in kinds} <= {"worse", "same"}
    assert any(kind == "worse" and text.startswith("−") for kind, text in kinds)


def test_confusion_tells_the_pixels(tmp_path: Path) -> None:
    """Moved by one, each car takes 6 pixels (2 of sky, 4 of road) and leaves as many."""
    document = write_report(tmp_path, {"one": 1})
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    scored = document["variants"][0]["frames_scored"]
    assert scored == 15
    told = f'Car "parked" taken for Sky: {2 * scored} pixels, {100 * 2 / 36:.2f} %'
    assert told in Page(html).titles
    assert "Train taken for" not in html, "a class without pixels has an empty row"


def test_an_earlier_evaluation_is_compared_without_pictures(tmp_path: Path) -> None:
    earlier = write_report(tmp_path / "a", {"one": 1})["variants"][0] | {"name": "earlier.json"}
    with Report(tmp_path / "b", STREET) as report:
        streams = [LabelledStream("b", 7, lambda: iter(frames(7)))]
        found = evaluate(Reader(0), streams, STREET, report.watch("now", STREET)).as_json()
        document = {"source": "s", "provenance": provenance(["sam2vss"])}
        now = {"name": "now", **found, "config": {}, "weights": []}
        report.write(document, [earlier, now], "earlier.json")
    page = Page((tmp_path / "b" / "index.html").read_text(encoding="utf-8"))
    assert "earlier.json" in page.text and ("better" in {kind for kind, _ in page.deltas})
    assert len(page.images("svg+xml")) == 2


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="report: .*file cannot be written"):
        Report(tmp_path / "file", STREET)


def offer(gallery: WorstFrames, stream: str, index: int, miou: float) -> None:
    labels = drawn(0)
    image = np.dstack([labels * 60] * 3)
    gallery.offer((stream, index, f"f{index}"), miou, image, labels, np.roll(labels, 3, axis=1))


def test_the_worst_frames_of_each_while() -> None:
    gallery = WorstFrames(3, STREET, STREET)
    mious = {0: 0.5, 3: 0.4, 7: 0.45, 20: 0.3, 21: 0.2, 40: 0.9, 60: 0.6, 80: 0.35, 81: math.nan}
    for index, miou in mious.items():
        offer(gallery, "a", index, miou)
    assert [(f.index, f.miou) for f in gallery.frames()] == [(21, 0.2), (80, 0.35), (3, 0.4)]
    offer(gallery, "b", 21 + APART - 1, 0.1)  # another stream is another scene
    assert [f.stream for f in gallery.frames()] == ["b", "a", "a"]


def test_panels_show_image_truth_prediction_and_errors() -> None:
    gallery = WorstFrames(1, STREET, STREET)
    offer(gallery, "a", 0, 0.5)
    (bad,) = gallery.frames()
    assert list(bad.panels) == ["image", "truth", "prediction", "errors in red"]
    panels = [
        cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
        for jpeg in bad.panels.values()
    ]
    assert {p.shape for p in panels} == {(PANEL_WIDTH * HEIGHT // WIDTH, PANEL_WIDTH, 3)}
    left_rim, right_rim = (slice(80, 120), slice(24, 40)), (slice(80, 120), slice(78, 94))
    red = [p[..., 0] - p[..., 1:].max(axis=-1) for p in panels]
    assert red[1][left_rim].mean() > 60 > red[2][left_rim].mean(), "the car is where it is true"
    assert red[2][right_rim].mean() > 60 > red[1][right_rim].mean(), "and told where it is told"
    assert red[3][left_rim].mean() > 100 and red[3][right_rim].mean() > 100
    assert abs(red[3][:, 200:]).max() < 20, "elsewhere nothing is wrong"
    assert bad.mistake == 'Road <wet> & dry taken for Car "parked": 1.2 % of the pixels'


def test_series_keep_their_size_and_their_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(POINTS * 8 + 5)
    series = Series()
    for i, v in enumerate(values):
        series.add(math.nan if i < 32 else float(v))
    points = series.points()
    assert series.step == 16 and len(points) <= POINTS
    assert np.isnan(points[:2]).all() and points[2] == pytest.approx(values[32:48].mean())
    assert points[-1] == pytest.approx(values[-5:].mean())
    assert series.mean() == pytest.approx(values[32:].mean()) and series.frames == len(values)
    assert math.isnan(Series().mean())


def test_a_chart_is_true_to_its_figures() -> None:
    series = Series()
    for v in (0.2, 0.6, math.nan, 0.4):
        series.add(v)
    figure = line_chart([("#123456", series)])
    (line,) = figure.axes[0].lines
    assert line.get_color() == "#123456"
    drawn = np.asarray(line.get_xydata(), float).T
    np.testing.assert_allclose(drawn[0], [0, 1, 2, 3])
    np.testing.assert_allclose(drawn[1], [20, 60, math.nan, 40])
    assert line.get_markevery() == [3], "between gaps a dot"
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke: #123456', svg(figure).decode())
    assert [c for c in paths[0] if c.isalpha()] == ["M", "L", "M"], "a gap is a gap"


def test_merged_frames_are_drawn_in_their_middle() -> None:
    series = Series()
    for i in range(POINTS + 2):
        series.add(i / 1000)
    (line,) = line_chart([("black", series)]).axes[0].lines
    np.testing.assert_allclose(np.asarray(line.get_xydata(), float)[3], [6.5, 0.65])


def test_a_figure_that_no_frame_has(tmp_path: Path) -> None:
    """One frame has an mIoU and nothing to flicker from."""
    with Report(tmp_path, STREET) as report:
        streams = [LabelledStream("b", 1, lambda: iter(frames(3)[:1]))]
        found = evaluate(Reader(0), streams, STREET, report.watch("now", STREET)).as_json()
        now = {"name": "now", **found, "config": {}, "weights": []}
        report.write({"source": "s", "provenance": provenance(["sam2vss"])}, [now], "now")
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert len(page.images("svg+xml")) == 1 and "No frame has this figure." in page.text


def test_many_streams_are_drawn_by_their_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam2vss_ros.evaluation.page.STREAMS_DRAWN", 1)
    write_report(tmp_path, {"one": 1})
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert len(page.images("svg+xml")) == 2
    assert "The 1 of 2 streams with the lowest mIoU" in page.text


def test_fingerprints_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"")
    found = fingerprints([tmp_path])
    assert [Path(f["path"]).name for f in found] == ["b", "a"]
    assert [f["bytes"] for f in found] == [0, 3]
    assert [f["sha256"] for f in found] == [hashlib.sha256(d).hexdigest() for d in (b"", b"abc")]


def test_commit_of_the_code(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("1")
    assert git_commit(file) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "code.py"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert git_commit(file) == head.stdout.strip()
    file.write_text("2")
    assert git_commit(file) == f"{head.stdout.strip()}-dirty"
    stranger = tmp_path / "stranger.py"
    stranger.write_text("not of this repository")
    assert git_commit(stranger) is None
