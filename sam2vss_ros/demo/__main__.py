"""Play a clip as a camera into the live node and record what it answers."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from sam2vss_ros.demo.clips import open_clip, street_clip
from sam2vss_ros.demo.process import Event, Process, ProcessEndedError, python_module
from sam2vss_ros.demo.report import Record, summarize, table
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.overlay import contact_sheet
from sam2vss_ros.ros.loopback import loopback_environment, reserve_domain

START_LIMIT = 180.0
"""Seconds for the node to load its model and become active."""

IDLE_LIMIT = 5.0
"""Seconds that the node may stay unconfigured: longer, and configuring has failed."""

DRAIN_LIMIT = 30.0
"""Seconds for the answers to the last images."""

SHEET_IMAGES, SHEET_COLUMNS = 12, 4

DEADLY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(RuntimeError):
    """The demo cannot go on; the message is for people."""


def main() -> int:
    """Run the demo. Returns the exit code."""
    options = parse_arguments()
    for deadly in DEADLY:  # so that the children are ended too
        signal.signal(deadly, lambda number, _: sys.exit(128 + number))
    try:
        summary = Demo(options).run()
    except (DemoError, InputError, ProcessEndedError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(table(summary))
    print(f"overlay.mp4, contact_sheet.png, objects.jsonl and summary.json are in {options.out}")
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line of scripts/demo."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description=__doc__,
        epilog="example: scripts/demo drive.mp4 -p mode:=refine -p max_objects:=8",
    )
    parser.add_argument(
        "source",
        nargs="?",
        type=Path,
        metavar="VIDEO|FOLDER|BAG",
        help="a video, a folder of images, or a ROS bag; default: a street drawn by the package",
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="default: demo_out")
    parser.add_argument(
        "--size", type=size, default=(640, 480), metavar="WxH", help="the camera's (640x480)"
    )
    parser.add_argument("--rate", type=positive, default=30.0, help="camera images a second (30)")
    parser.add_argument(
        "--loop-seconds",
        type=positive,
        default=0.0,
        metavar="S",
        help="repeat the clip for S seconds and tell the node's memory every minute",
    )
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="a parameter of the node, as in config/vss.yaml; may be repeated",
    )
    return parser.parse_args()


def size(text: str) -> tuple[int, int]:
    """Parse a size like 640x480."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 640x480")
    return int(width), int(height)


def positive(text: str) -> float:
    """Parse a number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return value


class Demo:
    """The three processes of one run and what they have reported."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._record = Record()
        self._ready = False
        self._state = ""
        self._state_since = time.monotonic()
        self._loading = (0, 0)
        self._loaded = False
        self._processes: list[Process] = []

    def run(self) -> dict[str, Any]:
        """Run everything; returns the summary, which is also written, with the pictures.

        Raises InputError for a source that cannot be played, ProcessEndedError, DemoError.
        """
        options = self._options
        options.out.mkdir(parents=True, exist_ok=True)
        source = options.source or street_clip(options.out, options.size)
        clip = open_clip(source, options.size)
        for old in ("overlay.mp4", "contact_sheet.png", "objects.jsonl", "summary.json"):
            (options.out / old).unlink(missing_ok=True)
        frames = round(options.loop_seconds * options.rate) or clip.count

        with ExitStack() as cleanup:
            domain, lock = reserve_domain()
            cleanup.enter_context(lock)
            environment = os.environ | loopback_environment() | {"ROS_DOMAIN_ID": str(domain)}
            cleanup.callback(self._stop_all)

            player = self._start(
                environment,
                "player",
                module(
                    "player",
                    source=source,
                    width=options.size[0],
                    height=options.size[1],
                    rate=options.rate,
                    loop_seconds=options.loop_seconds,
                ),
            )
            self._watch_loading(player)
            say(f"starting the node and a recorder (ROS domain {domain}, loopback only)")
            node = self._start(environment, "node", node_command(options.param))
            recorder = self._start(
                environment,
                "recorder",
                module("recorder", node="/vss", out=options.out, rate=options.rate),
            )
            self._wait_for_node(node)
            say(f"playing {clip.name}: {options.size[0]}x{options.size[1]} at {options.rate:g} Hz")
            player.go()
            self._watch_playing(player, node, frames)
            self._wait_for_last_answers(node)
            resident_mb = node.resident_mb()
            for process in (player, node, recorder):
                process.stop()
                process.check()
        if not self._record.labels:
            raise DemoError(f"the node has answered no image\n{node.log_end()}")
        summary = summarize(self._record, resident_mb)
        (options.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        self._write_contact_sheet()
        return summary

    def _start(self, environment: dict[str, str], name: str, command: list[str]) -> Process:
        log = self._options.out / f"{name}.log"
        with undisturbed():
            process = Process(name, command, environment, log, self._take)
            self._processes.append(process)
        return process

    def _stop_all(self) -> None:
        for process in reversed(self._processes):
            process.stop()

    def _take(self, event: Event) -> None:
        match event["event"]:
            case "loading":
                self._loading = event["frames"], event["of"]
            case "loaded":
                self._loaded = True
            case "state":
                if event["label"] != self._state:
                    self._state, self._state_since = event["label"], time.monotonic()
            case "ready":
                self._ready = True
            case _:
                self._record.take(event)

    def _check_all(self) -> None:
        for process in self._processes:
            process.check()

    def _watch_loading(self, player: Process) -> None:
        with progress("loading", leave=False) as bar:
            while player.running and not self._loaded:
                frames, bar.total = self._loading
                bar.update(frames - bar.n)
                time.sleep(0.05)
        player.check()

    def _wait_for_node(self, node: Process) -> None:
        end = time.monotonic() + START_LIMIT
        while not self._ready:
            self._check_all()
            idle = time.monotonic() - self._state_since
            failed = self._state == "unconfigured" and idle > IDLE_LIMIT
            if failed or time.monotonic() > end:
                raise DemoError(f"the node does not become active\n{node.log_end()}")
            time.sleep(0.05)

    def _watch_playing(self, player: Process, node: Process, frames: int) -> None:
        start, minutes = time.monotonic(), 0
        with progress("played", total=frames or None) as bar:
            while player.running:
                self._check_all()
                bar.set_postfix(processed=len(self._record.labels), refresh=False)
                bar.update(len(self._record.played) - bar.n)
                if time.monotonic() - start >= 60 * (minutes + 1):
                    minutes += 1
                    bar.write(f"minute {minutes}: the node holds {node.resident_mb():.0f} MB")
                time.sleep(0.1)
            bar.set_postfix(processed=len(self._record.labels), refresh=False)
            bar.update(len(self._record.played) - bar.n)
        player.check()

    def _wait_for_last_answers(self, node: Process) -> None:
        end = time.monotonic() + DRAIN_LIMIT
        while not self._record.settled():
            self._check_all()
            if time.monotonic() > end:
                raise DemoError(f"the node does not answer its last images\n{node.log_end()}")
            time.sleep(0.05)

    def _write_contact_sheet(self) -> None:
        capture = cv2.VideoCapture(str(self._options.out / "overlay.mp4"))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = {round((i + 0.5) * count / SHEET_IMAGES - 0.5) for i in range(SHEET_IMAGES)}
        images = []
        for index in range(count):
            if capture.grab() and index in wanted:
                images.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
        capture.release()
        sheet = contact_sheet(images, SHEET_COLUMNS, catalog=self._record.catalog)
        path = self._options.out / "contact_sheet.png"
        cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Deadly signals take effect at the end of the block, so that no child goes unnoticed."""
    came: list[int] = []
    handlers = {s: signal.signal(s, lambda number, _: came.append(number)) for s in DEADLY}
    try:
        yield
    finally:
        for deadly, handler in handlers.items():
            signal.signal(deadly, handler)
        if came:
            signal.raise_signal(came[0])


def node_command(parameters: list[str]) -> list[str]:
    """The node as a user starts it, its input connected to the demo's camera."""
    command = ["vss_node", "--ros-args"]
    for name in ("image:=/camera/image_raw", "camera_info:=/camera/camera_info"):
        command += ["-r", name]
    for parameter in parameters:
        command += ["-p", parameter]
    return command


def module(name: str, **arguments: object) -> list[str]:
    """The command of one of the demo's own processes."""
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in arguments.items()]
    return python_module(f"sam2vss_ros.demo.{name}", *flags)


def progress(what: str, **options: Any) -> tqdm[Any]:
    """A progress bar over frames; a line now and then where there is no terminal."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(desc=what, unit="frame", mininterval=interval, maxinterval=interval, **options)


def say(text: str) -> None:
    """Tell the person what is going on."""
    print(f"[demo] {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
