"""A thousand spoilt files of each kind: refused in a short line, or taken whole."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mutations import Mutations, YamlMutations
from resident import memory_back_to_its_level
from sam2vss_ros.affinity.model import load_affinity_model
from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.sam2.weights import EMBEDDED_FOLDER
from sam2vss_ros.semantics.catalog import ClassCatalog, load_catalog
from sam2vss_ros.semantics.model import EMBEDDED, load_semantics

CPU = torch.device("cpu")
LONGEST = 1000
"""Characters of a message."""

REFUSALS = (ValueError, ModelUnavailableError)
"""What the node and the commands tell in one line."""


def load_all(
    path: Path, contents: Iterable[bytes], load: Callable[[str], Any], seconds: float
) -> tuple[list[Any], Counter[str]]:
    """What was loaded of these contents of a file, and how many were refused, by error."""
    loaded, refused = [], Counter[str]()
    for index, content in enumerate(contents):
        path.write_bytes(content)
        start = time.monotonic()
        try:
            loaded.append(load(str(path)))
        except REFUSALS as error:
            refused[type(error).__name__] += 1
            check_refusal(str(error), path)
        except Exception as error:
            kept = path.with_stem(f"{path.stem}_{index}")
            kept.write_bytes(content)
            pytest.fail(f"mutation {index}, kept in {kept}, raises {error!r:.300}")
        assert time.monotonic() - start < seconds, f"mutation {index} takes too long"
    return loaded, refused


def check_refusal(message: str, path: Path) -> None:
    assert str(path) in message
    assert len(message) - len(str(path)) < LONGEST, message
    assert len(message.splitlines()) == 1, message
    assert "Traceback" not in message


def test_class_files(root: Path, tmp_path: Path) -> None:
    text = (root / "sam2vss_ros/classes/camvid.yaml").read_text(encoding="utf-8")
    path = tmp_path / "classes.yaml"
    with memory_back_to_its_level(30):
        contents = YamlMutations(text, seed=1).take(1000)
        catalogs, refused = load_all(path, contents, load_catalog, seconds=20)
    assert len(catalogs) + refused.total() == 1000
    assert len(catalogs) > 100 and refused.total() > 100, "mutations are to hit both"
    for catalog in catalogs:
        check_catalog(catalog)
    path.write_text(text, encoding="utf-8")
    assert load_catalog(str(path)) == load_catalog("camvid")


def check_catalog(catalog: ClassCatalog) -> None:
    """Every class can be published and drawn."""
    assert all(type(c.id) is int and 0 <= c.id <= 65535 for c in catalog.classes)
    assert all(c.name and "\n" not in c.name for c in catalog.classes)
    assert catalog.palette().shape == (65536, 3)


def alias_bomb(levels: int) -> str:
    """Few lines of YAML whose anchor `last` stands for 9 ** levels words."""
    lines = ["word0: &word0 boom"]
    lines += [f"word{i + 1}: &word{i + 1} [{', '.join([f'*word{i}'] * 9)}]" for i in range(levels)]
    return "\n".join(lines).replace(f"word{levels}", "last") + "\n"


@pytest.mark.parametrize(
    "text",
    [
        alias_bomb(9) + "name: bomb\nclasses: *last\n",
        alias_bomb(6) + "name: *last\nclasses: [{id: 0, name: sky, color: [0, 0, 0]}]\n",
        "classes: " + "[" * 3000,
        "classes: " + "{a: " * 3000,
        "name: n\nclasses: [{id: 0, name: sky, color: [.inf, 0, 0]}]",
        "name: n\nclasses: [{id: .nan, name: sky, color: [0, 0, 0]}]",
        "name: n\nclasses: [{id: 1.7, name: sky, color: [0, 0, 0]}]",
        f"name: n\nclasses: [{{id: 0, name: {'x' * 1_000_000}, color: [1, 2]}}]",
        "name: n\nclasses: [{id: " + "9" * 5000 + ", name: sky, color: [0, 0, 0]}]",
    ],
    ids=[
        "aliases",
        "long name",
        "brackets",
        "braces",
        "infinite",
        "nan",
        "fraction",
        "long",
        "huge",
    ],
)
def test_yaml_that_is_meant_to_harm(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.yaml"
    with memory_back_to_its_level(30):
        _, refused = load_all(path, [text.encode()], load_catalog, seconds=20)
    assert refused.total() == 1


def test_checkpoints_in_safetensors(tmp_path: Path) -> None:
    damage(tmp_path / "trunk.safetensors", [TRUNK.read_bytes()], load_trunk, 350, seed=2)


def test_checkpoints_of_pytorch(tmp_path: Path) -> None:
    """A zip of pickled names and raw tensors, as Meta's are."""
    path = tmp_path / "trunk.pt"
    torch.save({"model": load_file(TRUNK)}, path)
    damage(path, [path.read_bytes()], load_trunk, 350, seed=3)


def test_semantics_files(tmp_path: Path) -> None:
    path = tmp_path / "street.safetensors"
    damage(path, [EMBEDDED.read_bytes()], load_street, 300, seed=4)


TRUNK = EMBEDDED_FOLDER / "mobile.safetensors"


def load_trunk(path: str) -> nn.Module:
    return load_affinity_model("mobile", path, "cpu").network


def load_street(path: str) -> nn.ModuleList:
    model = load_semantics(path, CPU)
    check_catalog(model.catalog)
    return nn.ModuleList([model.head, model.classifier, model.world])


def damage(
    path: Path, samples: list[bytes], load: Callable[[str], nn.Module], count: int, seed: int
) -> None:
    """Load a file that is damaged in so many ways, and then the whole one."""
    path.write_bytes(samples[0])
    whole = load(str(path))

    def load_and_check(name: str) -> bool:
        check_finite(load(name))
        return True

    with memory_back_to_its_level(60):
        loaded, refused = load_all(path, Mutations(samples, seed).take(count), load_and_check, 10)
    assert len(loaded) + refused.total() == count
    assert loaded and refused.total() > count // 10, "mutations are to hit both"
    path.write_bytes(samples[0])
    for again, value in zip(load(str(path)).parameters(), whole.parameters(), strict=True):
        assert torch.equal(again, value)


def check_finite(network: nn.Module) -> None:
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        assert bool(value.isfinite().all()), f"{name} is not finite"
