"""`sam2vss config`: what it prints is in config/vss.yaml and in the README, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sam2vss_ros.cli import main
from sam2vss_ros.config import OPTIONS, NodeConfig, PipelineConfig
from sam2vss_ros.options import options_of


def printed(form: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["config", form]) == 0
    return capsys.readouterr().out


def test_the_parameter_file_is_the_printed_one(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (root / "config" / "vss.yaml").read_text(encoding="utf-8")
    assert text == printed("yaml", capsys), "run: sam2vss config yaml > config/vss.yaml"


def test_the_table_of_the_readme_is_the_printed_one(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = printed("table", capsys)
    header = table.splitlines(keepends=True)[0]
    _, header, rest = (root / "README.md").read_text(encoding="utf-8").partition(header)
    text = header + rest.partition("\n\n")[0] + "\n"
    assert text == table, "put what `sam2vss config table` prints under Parameters in README.md"


def test_the_parameter_file_gives_every_parameter_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As YAML reads it: of the same type, so that a string such as `off` would need its quotes."""
    (section,) = yaml.safe_load(printed("yaml", capsys)).values()
    values = section["ros__parameters"]
    expected = {
        name: list(default) if isinstance(default, tuple) else default
        for name, (default, _) in OPTIONS.items()
    }
    assert values == expected
    assert {k: type(v) for k, v in values.items()} == {k: type(v) for k, v in expected.items()}


def test_what_is_told_of_a_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    """Meaning, allowed values, and whether it may change while the node runs."""
    text, table = printed("yaml", capsys), printed("table", capsys)
    assert (
        "    # ---- Finding objects ----\n"
        "\n"
        "    # source of new objects: regions (of the dense prediction), things (those that can "
        "be\n"
        "    # counted), objects (things, and whatever moves by itself), grid (of points), off "
        "(prompts\n"
        "    # only) or auto (what suits the model).\n"
        "    discovery: auto\n"
    ) in text
    assert (
        "    # arithmetic of the model on a GPU. One of float32, bfloat16, float16.\n"
        "    precision: float32\n"
    ) in text
    assert (
        "    # least area of a new object, as a share of the image. 0.0 to 1.0. Live.\n"
        "    min_area: 0.003\n"
    ) in text
    assert (
        "| `min_area` | `0.003` | yes | least area of a new object, as a share of the image |\n"
    ) in table
    assert (
        "| `start_enabled` | `true` |  | process images from the start; otherwise wait for the "
        "service ~/enable |\n"
    ) in table
    assert '| `checkpoint` | `""` |  | path ' in table


def test_no_name_is_both_of_the_pipeline_and_of_the_node() -> None:
    assert len(OPTIONS) == len(options_of(PipelineConfig)) + len(options_of(NodeConfig))


def test_bad_form_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["config", "toml"])
    assert end.value.code == 2
    assert "invalid choice: 'toml' (choose from " in capsys.readouterr().err
