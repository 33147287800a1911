"""`sam2vss bench`: a module for each of its benchmarks, and what they share.

`report` prints and writes what they find, `material` has the objects and networks of those that
compare engines.
"""

from __future__ import annotations

from typing import Any

from sam2vss_ros.commands.arguments import Parser, add_command
from sam2vss_ros.commands.bench.abstention import add_abstention
from sam2vss_ros.commands.bench.depth import add_depth
from sam2vss_ros.commands.bench.gpu import add_gpu
from sam2vss_ros.commands.bench.identity import add_identity
from sam2vss_ros.commands.bench.memory import add_memory
from sam2vss_ros.commands.bench.parity import add_parity
from sam2vss_ros.commands.bench.pipeline import add_pipeline
from sam2vss_ros.commands.bench.speed import add_speed
from sam2vss_ros.commands.bench.tracking import add_tracking


def add_bench(commands: Any) -> None:
    """Declare `sam2vss bench parity`, `speed`, `memory`, `pipeline`, `identity`, `tracking`,
    `depth`, `abstention` and `gpu`."""
    parser = add_command(
        commands,
        "bench",
        usage="parity|speed|memory|pipeline|identity|tracking|depth|abstention|gpu ...",
        help_="measure the engine: parity with upstream, speed, memory, tracking",
        description=(
            "parity    are our masks those of SAM 2's own video predictor?\n"
            "speed     frames per second beside upstream, by option of the engine and by stage\n"
            "memory    does an endless stream hold no more than a short one?\n"
            "pipeline  how long each stage of the whole pipeline takes\n"
            "identity  do objects keep their ids when they leave and return?\n"
            "tracking  are objects followed on real video?\n"
            "depth     what do objects in space and clouds cost?\n"
            "abstention  is nothing said of scenes that the semantics do not know?\n"
            "gpu       every model, size and number of objects on a GPU, in one folder"
        ),
        examples=(
            "  sam2vss bench parity --video street.mp4 --objects 8 --frames 40 --add-at 20\n"
            "  sam2vss bench speed --video street.mp4 --objects 16 --device cpu --json speed.json\n"
            "  sam2vss bench speed --help"
        ),
    )
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True, parser_class=Parser)
    add_parity(kinds)
    add_speed(kinds)
    add_memory(kinds)
    add_pipeline(kinds)
    add_identity(kinds)
    add_tracking(kinds)
    add_depth(kinds)
    add_abstention(kinds)
    add_gpu(kinds)
