"""Play clips as cameras into the live node and record what it answers."""

from __future__ import annotations

import signal
import sys

from sam2vss_ros.demo.process import DEADLY, ProcessEndedError
from sam2vss_ros.errors import InputError


def main() -> int:
    """Run the demo. Returns the exit code."""
    for deadly in DEADLY:  # so that the children are ended too
        signal.signal(deadly, lambda number, _: sys.exit(128 + number))
    from sam2vss_ros.demo.arguments import parse_arguments
    from sam2vss_ros.demo.report import table
    from sam2vss_ros.demo.run import Demo, DemoError

    options = parse_arguments()
    try:
        summary = Demo(options).run()
    except (DemoError, InputError, ProcessEndedError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(table(summary))
    if "cameras" in summary:
        files = "overlay.mp4, contact_sheet.png, summary.json and a folder of each camera"
    else:
        files = "overlay.mp4, contact_sheet.png, objects.jsonl and summary.json"
    print(f"{files} are in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
