"""TorchScript is a program: what it would do is read before it is run."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from network_samples import CPU, NAMES, Blocks, assert_distribution, picture, write_classes
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import LONGEST_MESSAGE
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.networks.loading import load_network, open_network
from sam2vss_ros.semantics.networks.torchscript import SPACES, _file_operations
from sam2vss_ros.types import Frame

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Writes(nn.Module):
    """Scores of three classes, and a file beside them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 4, 4)
        self.path = str(path)

    def forward(self, images: Tensor) -> Tensor:
        written = torch.from_file(self.path, True, 10, dtype=torch.uint8)
        return self.layer(images) + written.float().mean()


class Inside(nn.Module):
    """The same in a function of a module in a module."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Identity(), Writes(path))

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


class Quantised(nn.Module):
    """Operations of another library of torch's."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        quantised = torch.quantize_per_tensor(self.layer(images), 0.1, 0, torch.quint8)
        return torch.ops.quantized.cat([quantised], 1, 0.1, 0).dequantize()


def script(folder: Path, network: nn.Module) -> Path:
    path = folder / "network.pt"
    torch.jit.script(network).save(str(path))
    write_classes(folder / "network.yaml", *NAMES)
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Writes, "it names from_file, which reads and writes files"),
        (Inside, "it names from_file, which reads and writes files"),
        (Quantised, "it names operations of quantized"),
    ],
)
def test_a_program_that_does_more_than_compute_is_not_run(
    kind: type[nn.Module], said: str, tmp_path: Path
) -> None:
    path = script(tmp_path, kind(tmp_path / "written"))
    with pytest.raises(ValueError, match="it is not run. Export the network to ONNX") as caught:
        load_network(str(path), CPU)
    message = str(caught.value)
    assert str(path) in message and said in message and "allow_torchscript: true" in message
    assert "\n" not in message and len(message) <= LONGEST_MESSAGE
    assert not (tmp_path / "written").exists()
    network = load_network(str(path), CPU, allow_torchscript=True)
    assert_distribution(network.log_probabilities(Frame(picture(40, 56), 0)), 3)
    assert (tmp_path / "written").exists() == (kind is not Quantised), "the user allowed it"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("torch.save(x, 'file')", "names save, which reads and writes files"),
        ("'file'.from_file(True, 10)", "names from_file"),
        ("y = torch.\n    from_file", "names from_file"),
        ("ops.aten.from_file('file')", "names from_file"),
        ("rpc_sync('other', f)", "names rpc_sync, which calls other machines"),
        ("def __setstate__(self, state: Tensor) -> NoneType:", "runs while it is loaded"),
        ("s = __torch__.torch.classes.c10d.TCPStore('host', 1)", "makes C++ objects"),
        ("ops . somebody . attack(x)", "names operations of somebody"),
    ],
)
def test_whatever_way_it_is_written(line: str, said: str, tmp_path: Path) -> None:
    """Code as nobody's torch.jit would write it, put into a file that was good."""
    good = script(tmp_path, Blocks(3))
    bad = tmp_path / "bad.pt"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            # Its name depends on what was compiled before.
            if "/code/__torch__/network_samples" in entry.filename and entry.filename[-3:] == ".py":
                content += f"\n# {line}\n{line}\n".encode()
            target.writestr(entry.filename, content)
    write_classes(tmp_path / "bad.yaml", *NAMES)
    with pytest.raises(ValueError, match="TorchScript, a program, and it") as caught:
        load_network(str(bad), CPU)
    assert said in str(caught.value)


def test_a_file_that_unpacks_to_much_more_than_itself_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("network/code/bomb.py", bytes(100_000_000))
    write_classes(tmp_path / "network.yaml", *NAMES)
    with pytest.raises(ValueError, match="it unpacks to many times its size"):
        load_network(str(path), CPU)


def test_no_operation_of_torch_that_takes_a_file_is_forgotten() -> None:
    """Also of a newer torch: whatever text an operation takes, it is no file, path or address."""
    assert {"from_file", "save"} <= _file_operations()
    for schema in torch._C._jit_get_all_schemas():
        space, name = schema.name.split("::")
        texts = {a.name for a in schema.arguments if "str" in str(a.type).lower()}
        outside = [t for t in texts if any(w in t for w in ("path", "url", "host", "addr", "dir"))]
        if space in SPACES and name not in _file_operations():
            assert not outside, schema


def test_the_option_reaches_the_network(tmp_path: Path) -> None:
    path = script(tmp_path, Writes(tmp_path / "written"))
    semantics = load_catalog("camvid")
    config = PipelineConfig(network=str(path), mode="network", device="cpu")
    with pytest.raises(ValueError, match="allow_torchscript"):
        open_network(config, semantics, CPU)
    allowed = PipelineConfig(
        network=str(path), mode="network", device="cpu", allow_torchscript=True
    )
    network = open_network(allowed, semantics, CPU)
    assert network is not None and [c.name for c in network.catalog.classes] == NAMES
