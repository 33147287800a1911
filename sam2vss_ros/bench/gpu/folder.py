"""The folder of a run: what is done stays done, and the next run goes on with the rest.

- `configurations/NAME.json`: what was found of each, or why nothing was
- `traces/NAME_....json.gz`: what the profiler saw
- `results.json`, `results.md`: all of it, and as tables
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sam2vss_ros.bench.gpu.grid import Configuration
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.outputs import check_folder, refuse_foreign, write_text

CONFIGURATIONS, TRACES = "configurations", "traces"
RESULTS, TABLES = "results.json", "results.md"
FORMAT = "sam2vss bench gpu"

DONE, FAILED, BEGUN = "done", "failed", "begun"
"""What is written of a configuration; BEGUN only while it is measured."""

ENDED = "the process ended while this was measured"


class Folder:
    """The results in a folder, of one machine and one set of `settings`."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = dict(settings)

    @property
    def traces(self) -> Path:
        """Where traces go."""
        return self.path / TRACES

    def open(self, overwrite: bool) -> None:
        """Make the folder, or go on with what it holds.

        A configuration that was begun and never ended has ended its process: it has failed. Raises
        InputError where the folder holds something else, or what was found with other settings.
        """
        check_folder("out", self.path)
        if self.path.is_dir() and any(self.path.iterdir()):
            known = self._known_settings()
            refuse_foreign("out", self.path, known is not None, overwrite)
            other = [n for n in self.settings if (known or {}).get(n) != self.settings[n]]
            if other and not overwrite:
                was = {name: (known or {}).get(name) for name in other}
                raise InputError(
                    f"out: {self.path} was measured with {_spoken(was)}, not "
                    f"{_spoken({name: self.settings[name] for name in other})}: give another "
                    "folder, or --overwrite to begin anew"
                )
            if overwrite:
                self._clear()
        for name in (CONFIGURATIONS, TRACES):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        if not (self.path / RESULTS).exists():
            self.write([], {}, "")
        for found in self.all():
            if found["status"] == BEGUN:
                self.fail(Configuration(**found["configuration"]), ENDED)

    def found(self, configuration: Configuration) -> dict[str, Any] | None:
        """What is known of a configuration; None: it is still to be measured."""
        file = self._file(configuration)
        if not file.is_file():
            return None
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def all(self) -> list[dict[str, Any]]:
        """What is known of any configuration, those of an earlier run included."""
        files = sorted((self.path / CONFIGURATIONS).glob("*.json"))
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return sorted(found, key=lambda one: tuple(one["configuration"].values()))

    def begin(self, configuration: Configuration) -> None:
        """It is measured from now on, until `note`, `fail` or `forget`."""
        self._nothing(configuration, BEGUN, {})

    def fail(self, configuration: Configuration, reason: str) -> None:
        """Nothing is known of it, and why."""
        self._nothing(configuration, FAILED, {"all": reason})

    def _nothing(
        self, configuration: Configuration, status: str, failures: Mapping[str, str]
    ) -> None:
        found = {"configuration": asdict(configuration), "status": status, "failures": failures}
        self.note(configuration, {**found, "engines": [], "pipelines": {}})

    def note(self, configuration: Configuration, found: Mapping[str, Any]) -> None:
        """Write what was found of a configuration."""
        write_text(self._file(configuration), json.dumps(found, indent=2) + "\n")

    def forget(self, configuration: Configuration) -> None:
        """It is to be measured again."""
        self._file(configuration).unlink(missing_ok=True)

    def write(
        self, found: Iterable[Mapping[str, Any]], machine: Mapping[str, Any], tables: str
    ) -> None:
        """Write all results together, as JSON and as tables."""
        everything = {
            "format": FORMAT,
            "settings": self.settings,
            "machine": dict(machine),
            "configurations": list(found),
        }
        write_text(self.path / RESULTS, json.dumps(everything, indent=2) + "\n")
        write_text(self.path / TABLES, tables)

    def _file(self, configuration: Configuration) -> Path:
        return self.path / CONFIGURATIONS / f"{configuration.name}.json"

    def _known_settings(self) -> dict[str, Any] | None:
        """The settings of the run that made the folder; None: it is none of ours."""
        try:
            known = json.loads((self.path / RESULTS).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        ours = isinstance(known, dict) and known.get("format") == FORMAT
        return known["settings"] if ours and isinstance(known.get("settings"), dict) else None

    def _clear(self) -> None:
        """Remove what runs of ours leave; anything else stays."""
        for name in (CONFIGURATIONS, TRACES):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in (RESULTS, TABLES):
            (self.path / name).unlink(missing_ok=True)


def _spoken(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
