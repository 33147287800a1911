"""Node and engine for long: does anything grow, fail or get lost?

    scripts/soak                    all three parts, about an hour
    scripts/soak --minutes 5        a shorter one

Parts: lifecycle cycles with images, a camera at its rate into the live node, and frames through the
engine without ROS (`sam2vss bench memory`). Prints the table of docs/reliability.md; the figures
are also in soak.json. Ends with code 1 where a part does not hold what that page promises.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam2vss_ros.bench.report import markdown
from sam2vss_ros.demo.arguments import positive
from sam2vss_ros.demo.arguments import size as parse_size
from sam2vss_ros.demo.process import DEADLY, Process, ProcessEndedError, python_module
from sam2vss_ros.demo.run import Demo, DemoError
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.outputs import write_text
from sam2vss_ros.ros.loopback import loopback_environment, reserve_domain

RATE = 30.0
CYCLE_IMAGES = 10
BUSY = ("--image-size", 128, "--discovery", "regions", "--min-class-score", 0.0)
"""Options of the engine: small images, in which many objects come and go."""

SETTLING = 0.1
"""Share of a part after which the process should have all the memory it needs."""

GROWTH = 0.05
"""How much more it may hold at the end, as a share of that."""


@dataclass
class Part:
    """What a part has shown; None: it has no such figure. memory_mb: from its begin to its end."""

    name: str
    memory_mb: list[float]
    frames_in: int
    processed: int
    dropped: int | None = None
    failed: int | None = None
    ids: int | None = None
    latency_ms_p95: float | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def settled_mb(self) -> float:
        """What was held at most by the time when all should have been taken."""
        return max(self.memory_mb[: 1 + round(SETTLING * len(self.memory_mb))])

    def check_memory(self) -> None:
        """Note a problem where the process holds more at its end."""
        growth = self.memory_mb[-1] / self.settled_mb - 1
        if growth > GROWTH:
            self.problems.append(f"memory grows by {growth:.0%}; {GROWTH:.0%} are allowed")


def cycles(count: int, size: tuple[int, int], out: Path) -> Part:
    """Take a node through so many lives, with images of this width and height.

    Raises ProcessEndedError.
    """
    part = Part(f"{count} lifecycle cycles", [], 0, 0)
    environment = dict(os.environ)
    start = time.monotonic()
    with ExitStack() as cleanup, tqdm(desc="cycles", total=count, unit="cycle") as bar:
        domain, lock = reserve_domain()
        cleanup.enter_context(lock)
        environment.update(loopback_environment(), ROS_DOMAIN_ID=str(domain))
        command = ["vss_node", "--ros-args", "-p", "autostart:=false"]
        node = Process("node", command, environment, out / "cycles_node.log", lambda _: None)
        cleanup.callback(node.stop)

        def note(event: dict[str, Any]) -> None:
            part.frames_in += event["sent"]
            part.processed += event["answered"]
            part.memory_mb.append(node.resident_mb())
            bar.set_postfix(MB=round(part.memory_mb[-1]), refresh=False)
            bar.update()

        sizes = ("--images", CYCLE_IMAGES, "--width", size[0], "--height", size[1])
        command = python_module("sam2vss_ros.demo.cycles", "--cycles", count, *sizes)
        manager = Process("manager", command, environment, out / "cycles_manager.log", note)
        cleanup.callback(manager.stop)
        while manager.running:
            node.check()
            time.sleep(0.1)
        manager.check()
    part.seconds = time.monotonic() - start
    part.check_memory()
    if part.processed < part.frames_in:
        part.problems.append(f"{part.frames_in - part.processed} images were not answered")
    return part


def camera(minutes: float, size: tuple[int, int], out: Path) -> Part:
    """Play a street as a camera of this width and height into a live node.

    Raises DemoError, ProcessEndedError.
    """
    options = argparse.Namespace(
        sources=[],
        out=out,
        size=size,
        rate=RATE,
        loop_seconds=60 * minutes,
        separate=False,
        param=[],
    )
    demo = Demo(options)
    summary = demo.run()
    part = Part(
        f"{minutes:g} minutes at {RATE:g} Hz",
        demo.memory_mb,
        summary["frames_in"],
        summary["frames_processed"],
        summary["frames_dropped"],
        summary["frames_failed"],
        summary["track_ids_total"],
        summary["latency_ms_p95"],
        60 * minutes,
    )
    part.check_memory()
    for what in ("frames_failed", "frames_unmatched"):
        if summary[what]:
            part.problems.append(f"{what.replace('_', ' ')}: {summary[what]}")
    return part


def engine(frames: int, out: Path) -> Part:
    """Run frames through the engine alone. Raises InputError."""
    path = out / "engine.json"
    path.unlink(missing_ok=True)
    options = ("--frames", frames, "--json", path, *BUSY)
    command = python_module("sam2vss_ros.cli", "bench", "memory", *options)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # code 1: see `problems`
    if not path.is_file():
        raise InputError("sam2vss bench memory gave no figures")
    found = json.loads(path.read_text(encoding="utf-8"))
    memory = [sample["process_bytes"] / 1e6 for sample in found["samples"]]
    part = Part(f"{frames} frames, engine alone", memory, frames, frames)
    part.ids, part.seconds = found["samples"][-1]["ids"], found["seconds"]
    part.problems += found["problems"]
    return part


def table(parts: list[Part]) -> str:
    """The figures of all parts, in Markdown."""
    rows = {
        "memory once settled (MB)": [f"{p.settled_mb:.0f}" for p in parts],
        "memory at the end (MB)": [f"{p.memory_mb[-1]:.0f}" for p in parts],
        "most memory (MB)": [f"{max(p.memory_mb):.0f}" for p in parts],
        "frames in": [str(p.frames_in) for p in parts],
        "processed": [str(p.processed) for p in parts],
        "dropped for newer ones": [shown(p.dropped) for p in parts],
        "failed": [shown(p.failed) for p in parts],
        "track ids given": [shown(p.ids) for p in parts],
        "latency p95 (ms)": [shown(p.latency_ms_p95) for p in parts],
        "minutes": [f"{p.seconds / 60:.1f}" for p in parts],
        "not as promised": [str(len(p.problems)) for p in parts],
    }
    return markdown(["", *(p.name for p in parts)], [[k, *cells] for k, cells in rows.items()])


def shown(figure: float | None) -> str:
    return "" if figure is None else str(figure)


def parse_arguments() -> argparse.Namespace:
    """The options of scripts/soak; ends the program where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cycles", type=int, default=100, help="lifecycle cycles (100)")
    parser.add_argument(
        "--minutes", type=positive, default=30.0, help="minutes at the camera's rate (30)"
    )
    parser.add_argument(
        "--frames", type=int, default=20000, help="frames through the engine (20000)"
    )
    parser.add_argument(
        "--size", type=parse_size, default=(640, 480), metavar="WxH", help="the camera's (640x480)"
    )
    parser.add_argument("--out", type=Path, default=Path("soak_out"), help="default: soak_out")
    options = parser.parse_args()
    if options.cycles < 1 or options.frames < 20:
        parser.error("give one cycle or more, and 20 frames or more")
    return options


def main() -> int:
    """Run all parts. Returns the exit code."""
    options = parse_arguments()
    for deadly in DEADLY:  # so that the children are ended too
        signal.signal(deadly, lambda number, _: sys.exit(128 + number))
    parts: list[Part] = []
    try:
        run(options, parts)
    except (DemoError, InputError, OSError, ProcessEndedError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    finally:  # what is done is told, whatever ends the rest
        if parts:
            print(table(parts))
        for part in parts:
            for problem in part.problems:
                print(f"{part.name}: {problem}")
    return 1 if any(part.problems for part in parts) else 0


def run(options: argparse.Namespace, parts: list[Part]) -> None:
    """Add the parts as they are finished, and write them."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    parts.append(cycles(options.cycles, options.size, out))
    parts.append(camera(options.minutes, options.size, out))
    parts.append(engine(options.frames, out))
    figures = json.dumps([asdict(part) for part in parts], indent=2)
    write_text(out / "soak.json", figures + "\n")


if __name__ == "__main__":
    sys.exit(main())
