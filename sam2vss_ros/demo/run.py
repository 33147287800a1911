"""One run of the demo: players, nodes and recorders, from their start to the summary."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam2vss_ros.demo.cameras import Camera, node_command, several_cameras
from sam2vss_ros.demo.clips import open_clip, street_clip
from sam2vss_ros.demo.pictures import Recording, grid_columns, write_contact_sheet, write_grid
from sam2vss_ros.demo.process import Event, Process, python_module, undisturbed
from sam2vss_ros.demo.report import summarize, summarize_all
from sam2vss_ros.demo.stream import Stream
from sam2vss_ros.io.outputs import check_folder, refuse_foreign, write_text
from sam2vss_ros.ros.loopback import loopback_environment, reserve_domain

START_LIMIT = 180.0
"""Seconds for a node to load its model and become active."""

IDLE_LIMIT = 5.0
"""Seconds that a node may say that it is unconfigured: longer, and configuring has failed."""

DRAIN_LIMIT = 30.0
"""Seconds for the answers to the last images."""

MEMORY_EVERY = 10.0
"""Seconds from one look at the memory of the nodes to the next."""

RESULTS = ("overlay.mp4", "contact_sheet.png", "objects.jsonl", "summary.json")


class DemoError(RuntimeError):
    """The demo cannot go on; the message is for people."""


class Demo:
    """All processes of one run. memory_mb: of all nodes, ten seconds after each other."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._streams: list[Stream] = []
        self._environment = dict(os.environ)
        self._nodes: dict[str, Process] = {}
        self._processes: list[Process] = []
        self.memory_mb: list[float] = []

    def run(self) -> dict[str, Any]:
        """Run everything; returns the summary, which is also written, with the pictures.

        Raises InputError for a source that cannot be played, ProcessEndedError, DemoError.
        """
        self._prepare()
        with ExitStack() as cleanup:
            domain, lock = reserve_domain()
            cleanup.enter_context(lock)
            self._environment.update(loopback_environment(), ROS_DOMAIN_ID=str(domain))
            cleanup.callback(self._stop_all)

            self._start_players()
            self._watch_loading()
            self._say_what_starts()
            self._start_nodes()
            self._start_recorders()
            self._wait_for_nodes()
            for stream in self._streams:
                self._say_what_plays(stream)
            for stream in self._streams:
                stream.player.go()
            self._watch_playing()
            self._wait_for_last_answers()
            resident_mb = {name: node.resident_mb() for name, node in self._nodes.items()}
            for process in self._processes:
                process.stop()
                process.check()
        return self._finish(resident_mb)

    def _prepare(self) -> None:
        """Open the clips and remove the results of an earlier run."""
        options, out = self._options, self._options.out
        check_folder("out", out)
        out.mkdir(parents=True, exist_ok=True)
        if len(options.sources) > 1:
            cameras = several_cameras(options.sources, out, options.separate)
        else:
            (source,) = options.sources or [street_clip(out, options.size)]
            cameras = [Camera("", source, out)]
        self._streams = [Stream(c, open_clip(c.source, options.size)) for c in cameras]
        folders = {out, *(camera.folder for camera in cameras)}
        ours = any(out.glob("player.log")) or any(out.glob("*/player.log"))
        for folder in folders:
            if any((folder / name).exists() for name in RESULTS):
                refuse_foreign("out", folder, ours, options.overwrite)
        for folder in folders:
            folder.mkdir(exist_ok=True)
            for old in RESULTS:
                (folder / old).unlink(missing_ok=True)

    # Processes.

    def _start_players(self) -> None:
        options = self._options
        for stream in self._streams:
            camera = stream.camera
            command = module(
                "player",
                source=camera.source,
                namespace=camera.namespace,
                width=options.size[0],
                height=options.size[1],
                rate=options.rate,
                loop_seconds=options.loop_seconds,
            )
            name, log = stream.named("player"), camera.folder / "player.log"
            stream.player = self._start(name, command, log, stream.take)

    def _start_nodes(self) -> None:
        for full_name, streams in self._served().items():
            command = node_command([s.camera for s in streams], self._options.param)
            if len(streams) == 1:
                name, folder = streams[0].named("node"), streams[0].camera.folder
            else:
                name, folder = "node", self._options.out
            node = self._start(name, command, folder / "node.log", on_event=lambda _: None)
            self._nodes[full_name] = node
            for stream in streams:
                stream.node = node

    def _start_recorders(self) -> None:
        for stream in self._streams:
            camera = stream.camera
            command = module(
                "recorder",
                node=camera.node,
                prefix=camera.prefix,
                namespace=camera.namespace,
                out=camera.folder,
                rate=self._options.rate,
            )
            name, log = stream.named("recorder"), camera.folder / "recorder.log"
            stream.recorder = self._start(name, command, log, stream.take)

    def _served(self) -> dict[str, list[Stream]]:
        """The streams by the node that serves them."""
        served: dict[str, list[Stream]] = {}
        for stream in self._streams:
            served.setdefault(stream.camera.node, []).append(stream)
        return served

    def _start(
        self, name: str, command: list[str], log: Path, on_event: Callable[[Event], None]
    ) -> Process:
        with undisturbed():
            process = Process(name, command, self._environment, log, on_event)
            self._processes.append(process)
        return process

    def _stop_all(self) -> None:
        for process in reversed(self._processes):
            process.stop()

    def _check_all(self) -> None:
        for process in self._processes:
            process.check()

    # What happens meanwhile.

    def _say_what_starts(self) -> None:
        nodes, recorders = len(self._served()), len(self._streams)
        what = f"{nodes} nodes" if nodes > 1 else "the node"
        what += f" and {recorders} recorders" if recorders > 1 else " and a recorder"
        domain = self._environment["ROS_DOMAIN_ID"]
        say(f"starting {what} (ROS domain {domain}, loopback only)")

    def _watch_loading(self) -> None:
        with progress("loading", leave=False) as bar:
            while any(s.player.running and not s.loaded for s in self._streams):
                bar.total = sum(s.loading[1] for s in self._streams)
                bar.update(sum(s.loading[0] for s in self._streams) - bar.n)
                time.sleep(0.05)
        self._check_all()

    def _wait_for_nodes(self) -> None:
        end = time.monotonic() + START_LIMIT
        while waiting := [s for s in self._streams if not s.ready]:
            self._check_all()
            for stream in waiting:
                if stream.idle > IDLE_LIMIT or time.monotonic() > end:
                    raise node_error(stream, "does not become active")
            time.sleep(0.05)

    def _say_what_plays(self, stream: Stream) -> None:
        clip, camera = stream.clip.name, stream.camera.name
        width, height = self._options.size
        played = f"{clip} as {camera}" if camera else clip
        say(f"playing {played}: {width}x{height} at {self._options.rate:g} Hz")

    def _watch_playing(self) -> None:
        options, streams = self._options, self._streams
        length = round(options.loop_seconds * options.rate)
        counts = [length or stream.clip.count for stream in streams]
        total = sum(counts) if all(counts) else None  # a count of 0 is not known
        start, minutes = time.monotonic(), 0

        def show() -> None:
            bar.set_postfix(processed=sum(len(s.record.labels) for s in streams), refresh=False)
            bar.update(sum(len(s.record.played) for s in streams) - bar.n)

        with progress("played", total=total) as bar:
            while any(stream.player.running for stream in streams):
                self._check_all()
                show()
                if time.monotonic() - start >= MEMORY_EVERY * len(self.memory_mb):
                    self.memory_mb.append(self._held_mb())
                if time.monotonic() - start >= 60 * (minutes + 1):
                    minutes += 1
                    bar.write(f"minute {minutes}: {self._memory()}")
                time.sleep(0.1)
            show()
        self._check_all()

    def _memory(self) -> str:
        """The memory of the nodes at this moment, for people."""
        held = f"{self._held_mb():.0f} MB"
        several = len(self._nodes) > 1
        return f"the nodes hold {held}" if several else f"the node holds {held}"

    def _held_mb(self) -> float:
        return sum(node.resident_mb() for node in self._nodes.values())

    def _wait_for_last_answers(self) -> None:
        end = time.monotonic() + DRAIN_LIMIT
        while not all(s.record.settled() for s in self._streams) and time.monotonic() < end:
            self._check_all()
            time.sleep(0.05)
        # What a busy machine kept from the recorder alone is counted as unmatched.
        for stream in self._streams:
            if not stream.record.answered():
                raise node_error(stream, "does not answer its last images")

    # What is left behind.

    def _finish(self, resident_mb: Mapping[str, float]) -> dict[str, Any]:
        """Write the summary and the pictures. resident_mb: memory of the nodes by their names."""
        streams, out = self._streams, self._options.out
        for stream in streams:
            if not stream.record.labels:
                raise node_error(stream, f"has answered {stream.named('no image')}")
        summaries = {
            s.camera.name: summarize(s.record, resident_mb[s.camera.node]) for s in streams
        }
        if len(streams) == 1:
            (summary,) = summaries.values()
        else:
            records = [stream.record for stream in streams]
            summary = summarize_all(summaries, records, list(resident_mb.values()))
        write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
        self._write_pictures()
        return summary

    def _write_pictures(self) -> None:
        streams, out = self._streams, self._options.out
        for stream in streams:
            folder = stream.camera.folder
            catalog = stream.record.catalog
            write_contact_sheet(folder / "overlay.mp4", folder / "contact_sheet.png", catalog)
        if len(streams) > 1:
            recordings = [
                Recording(s.camera.name, s.camera.folder / "overlay.mp4", s.record.overlay_begins)
                for s in streams
            ]
            write_grid(recordings, out / "overlay.mp4", self._options.rate)
            write_contact_sheet(
                out / "overlay.mp4",
                out / "contact_sheet.png",
                streams[0].record.catalog,
                across=grid_columns(len(streams)),
            )


def node_error(stream: Stream, what: str) -> DemoError:
    """What the node of a camera does wrong, with the last lines that it has written."""
    return DemoError(f"the {stream.node.name} {what}\n{stream.node.log_end()}")


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
