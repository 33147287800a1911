"""Live sources: a camera over HTTP that breaks off and returns, and sources that are not there."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from mjpeg_server import MjpegServer
from videos import write_video

from sam2vss_ros.errors import InputError
from sam2vss_ros.io import live_sources
from sam2vss_ros.io.live_sources import LiveSource, is_live, open_live


def test_what_is_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("0", "12", "/dev/video0", "rtsp://host/x", "http://host/x"):
        assert is_live(source)
    for source in ("street.mp4", "folder", "-1", "0.mp4", "/dev/null", "²"):
        assert not is_live(source)
    (tmp_path / "7").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not is_live("7"), "a folder of that name"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("rtsp://127.0.0.1:9/cam", "Connection refused"),
        ("http://127.0.0.1:9/video.mjpg", "Connection refused"),
        ("97", "there is no /dev/video97"),
        ("/dev/video97", "there is no /dev/video97"),
        ("ftp://127.0.0.1/x.mp4", "'ftp' is not one of rtsp, rtsps, http, https, rtmp"),
        ("udp://127.0.0.1:9", "'udp' is not one of"),
        ("http://127.0.0.1:port/x", "it is no address"),
        ("http:///x", "it names no host"),
    ],
)
def test_what_cannot_be_opened_is_named_at_once(source: str, reason: str) -> None:
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        open_live(source)
    assert str(caught.value).startswith(f"{source} cannot be opened as a stream: ")
    assert reason in str(caught.value)
    assert time.monotonic() - start < 3


def test_an_address_without_a_video_is_named(tmp_path: Path) -> None:
    with MjpegServer() as camera, pytest.raises(InputError, match="answers, but without a video"):
        open_live(camera.address.replace("video", "other"))


def test_the_newest_frames_are_taken_at_most_at_the_rate() -> None:
    with MjpegServer(rate=50) as camera:
        began = time.time_ns()
        source = open_live(camera.address, rate=5)
        assert isinstance(source, LiveSource)
        with source:
            frames = list(itertools.islice(source, 5))
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(set(stamps))
    assert all(abs(stamp - began) < 3e9 for stamp in stamps), "stamps are of the wall clock"
    assert 0.6 < (stamps[-1] - stamps[0]) / 1e9 < 1.5, "5 frames at 5 Hz"
    shades = [int(frame.image[0, 0, 0]) for frame in frames]
    assert shades[-1] - shades[0] > 20, "those between are dropped, not queued"


def test_a_stream_that_breaks_off_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    with MjpegServer() as camera:
        source = open_live(camera.address, rate=20)
        assert isinstance(source, LiveSource)
        with source:
            frames = iter(source)
            next(frames)
            camera.__exit__(None, None, None)
            with MjpegServer(port=camera.port) as again:
                began = time.monotonic()
                while again.frames == 0 and time.monotonic() - began < 20:
                    next(frames)
                assert next(frames).stamp_ns
    assert "no more images come, trying again" in caplog.text


def test_a_stream_that_stays_away_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_sources, "LOST_SECONDS", 0.5)
    monkeypatch.setattr(live_sources, "READ_SECONDS", 0.5)
    with MjpegServer() as camera:
        source = open_live(camera.address)
    with source:  # type: ignore[union-attr]
        assert len(list(source)) < 10
    assert "the stream has ended" in caplog.text


def test_a_recording_at_an_address_is_read_whole(tmp_path: Path) -> None:
    video = write_video(tmp_path / "red.mp4", frames=7)
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split("port ")[1].split()[0]
        source = open_live(f"http://127.0.0.1:{port}/{video.name}")
        assert (source.count, source.rate) == (7, 25.0)
        assert [f.stamp_ns for f in source] == [i * 40_000_000 for i in range(7)]
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_live_run(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with MjpegServer() as camera:
        run = subprocess.Popen(
            [sys.executable, "-m", "sam2vss_ros.cli", "run", camera.address, "--out", str(out),
             "--mode", "network"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        began = time.monotonic()
        # Until they are complete, results lie in a folder of their own.
        while len(list(out.rglob("labels/*.png"))) < 4 and time.monotonic() - began < 50:
            time.sleep(0.1)
        run.send_signal(number)
        text, _ = run.communicate(timeout=20)
    assert run.returncode == 0, text
    records = [json.loads(line) for line in (out / "objects.jsonl").read_text().splitlines()]
    assert len(records) >= 4 and f"{len(records)} frames" in text
    assert len(list(out.glob("labels/*.png"))) == len(records)
    video = cv2.VideoCapture(str(out / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == len(records)
    assert video.read()[0]
