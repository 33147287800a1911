"""`sam2vss models --fetch`: what comes is checked, and nothing half-written stays."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sam2vss_ros.cli import main
from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.sam2.cards import CARDS, ModelCard
from sam2vss_ros.sam2.fetching import fetch_weights
from sam2vss_ros.sam2.weights import fetched_folder

CONTENT = bytes(range(256)) * 10_000
CARD = replace(
    CARDS["sam2.1_hiera_tiny"],
    file_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)
Answer = Callable[[BaseHTTPRequestHandler], None]


class Hub:
    """A hub on this machine; `answer` is what it says to whoever asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Answer = whole
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.asked.append(self.path)
                hub.answer(self)

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def sends(content: bytes, announced: int | None = None, status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


whole = sends(CONTENT)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub, and a machine without weights."""
    made = Hub()
    for variable in ("HOME", "HF_HOME", "SAM2VSS_CHECKPOINTS"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sam2vss_ros.sam2.weights._cached_from_hub", lambda card: None)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{made.server.server_port}/")
    yield made
    made.server.shutdown()
    made.server.server_close()


def refused(card: ModelCard = CARD) -> str:
    with pytest.raises(ModelUnavailableError) as caught:
        fetch_weights(card)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_fetched_is_whole_and_is_fetched_once(hub: Hub) -> None:
    path = fetch_weights(CARD)
    assert path == fetched_folder() / "sam2.1_hiera_tiny.pt" and path.read_bytes() == CONTENT
    assert list(fetched_folder().iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644
    assert fetch_weights(CARD) == path
    assert hub.asked == ["/facebook/sam2.1-hiera-tiny/resolve/main/sam2.1_hiera_tiny.pt"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (sends(CONTENT[:-1]), f"has {len(CONTENT)} bytes, not {len(CONTENT) - 1}: nothing was"),
        (sends(CONTENT + b"x"), f"has {len(CONTENT)} bytes, not {len(CONTENT) + 1}"),
        (sends(CONTENT[:-1] + b"x"), f"the SHA-256 of sam2.1_hiera_tiny.pt is {CARD.sha256}, not"),
        (sends(CONTENT[:1000], announced=len(CONTENT)), "not 1000: nothing was kept"),
        (sends(b"<html>log in</html>"), "bytes, not 19: nothing was kept"),
        (sends(b"", status=404), "could not be fetched from http://127.0.0.1"),
        (sends(b"", status=503), "HTTP Error 503"),
        (lambda handler: handler.wfile.write(b"no HTTP at all\r\n\r\n"), "could not be fetched"),
    ],
)
def test_what_is_not_metas_file_is_not_kept(answer: Answer, said: str, hub: Hub) -> None:
    hub.answer = answer
    assert said in refused()
    assert list(fetched_folder().iterdir()) == []


def test_an_endless_answer_ends(hub: Hub) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(1 << 20))
        except OSError:
            return  # the other side has heard enough

    hub.answer = endless
    assert f"has {len(CONTENT)} bytes, not" in refused()
    assert list(fetched_folder().iterdir()) == []


def test_an_interruption_leaves_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sam2vss_ros.sam2.fetching._check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_weights(CARD)
    assert list(fetched_folder().iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "HOME").write_text("a file")
    assert "could not be fetched" in refused() and hub.asked == []


def test_another_file_of_metas_name_is_not_taken_for_it(hub: Hub) -> None:
    fetched_folder().mkdir(parents=True)
    path = fetched_folder() / CARD.file
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert f"remove {path} and fetch again, or name it as `checkpoint`" in refused()
    assert hub.asked == []


def test_nobody_there_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "could not be fetched from http://127.0.0.1:9/facebook" in refused()


def test_the_command_says_so_in_a_line(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.answer = sends(b"<html>")
    assert main(["models", "--fetch", "sam2.1_hiera_tiny"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("sam2vss: error: model sam2.1_hiera_tiny: sam2.1_hiera_tiny.pt has 1560")
    assert main(["models", "--fetch", "sam3"]) == 2
    assert "'sam3' is not one of mobile" in capsys.readouterr().err


def test_every_file_of_meta_can_be_checked() -> None:
    meta = [card for card in CARDS.values() if card.file]
    assert len(meta) == 5 and len({card.sha256 for card in meta}) == 5
    for card in meta:
        assert len(bytes.fromhex(card.sha256)) == 32
        # Four bytes for each parameter, and the names.
        assert 4 * card.parameters < card.file_bytes < 4 * card.parameters + 1_000_000
