"""`pip install .`: the part that needs no ROS, with the command `sam2vss`.

Colcon builds the ROS package from package.xml and CMakeLists.txt; it does not read this file.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "sam2vss_ros/__init__.py").read_text(), re.MULTILINE
)
assert VERSION is not None

setup(
    name="sam2vss_ros",
    version=VERSION[1],
    description="Online video semantic segmentation with SAM 2, for ROS 2 and for plain Python",
    license="Apache-2.0",
    packages=find_packages(include=["sam2vss_ros", "sam2vss_ros.*"]),
    package_data={"sam2vss_ros": ["**/*.yaml", "**/*.xml", "**/*.html", "weights/*"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.5.1",
        "sam2>=1.1.0,<2",
        "safetensors>=0.4",
        "omegaconf>=2.3",
        "numpy>=1.24.4",
        "opencv-python-headless>=4.6",
        "PyYAML>=5.4",
        "Pillow>=9.0",
        "tqdm>=4.66.1",
        "threadpoolctl>=3.1",
        "rosbags>=0.11.9",
    ],
    extras_require={
        "networks": ["transformers>=5", "onnxruntime>=1.16", "scipy>=1.9"],
        # `sam2vss export onnx`; onnxruntime checks what was written.
        "export": ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.18"],
        # The report of `sam2vss evaluate` and the curves of `sam2vss train`.
        "report": ["jinja2>=3.0", "matplotlib>=3.5"],
        # Many bags on many workers: `sam2vss evaluate --bags` and `sam2vss label`.
        "fleet": ["ray>=2.60"],
    },
    entry_points={"console_scripts": ["sam2vss = sam2vss_ros.cli:main"]},
)
