# The node on an official ROS 2 image: humble, jazzy, kilted or lyrical.
#
#     docker build --build-arg ROS_DISTRO=jazzy -t sam2vss_ros .
#     docker run --rm --net=host --ipc=host sam2vss_ros image:=/camera/image_raw
#
# With a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128, run with --gpus all.
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base AS node

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /ws

# Only what names the dependencies, so that they are installed again only when they change.
COPY package.xml src/sam2vss_ros/
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential python3-dev python3-venv \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths src --ignore-src -y \
    && rm -rf /var/lib/apt/lists/*

# torch goes beside the packages of apt, as docs/install.md says why: NumPy stays at the major version
# that apt's OpenCV and cv_bridge were built for.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /usr/bin/python3 -m venv --system-site-packages .venv && touch .venv/COLCON_IGNORE \
    && numpy="numpy<$(/usr/bin/python3 -c 'import numpy; print(int(numpy.__version__.split(".")[0]) + 1)')" \
    && .venv/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.5.1" "$numpy" \
    && .venv/bin/pip install --no-cache-dir \
       "safetensors>=0.4" "rosbags>=0.11.9" "threadpoolctl>=3.1" \
       "setuptools>=64" "wheel>=0.40" "$numpy" \
    && SAM2_BUILD_CUDA=0 .venv/bin/pip install --no-cache-dir --no-build-isolation \
       "sam2>=1.1.0,<2" "$numpy"

COPY . src/sam2vss_ros
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" && . .venv/bin/activate \
    && colcon build --packages-select sam2vss_ros \
    && rm -rf build log

# Whoever reaches the node's topics reaches no more than this user may do.
RUN useradd --create-home --uid 2000 vss
USER 2000
ENTRYPOINT ["/ros_entrypoint.sh", "bash", "-c", \
    "source /ws/install/setup.bash && exec ros2 launch sam2vss_ros vss.launch.py \"$@\"", "vss"]

# docker build --target check: that this distribution's packages and the node go together.
FROM node AS check
USER 0
RUN .venv/bin/pip install --no-cache-dir "pytest>=8"
USER 2000
WORKDIR /ws/src/sam2vss_ros
RUN . /ws/install/setup.bash && . /ws/.venv/bin/activate \
    && python -m pytest -p no:cacheprovider test/unit/test_pipeline.py test/unit/test_device_buffers.py \
       test/ros/test_node.py test/ros/test_lifecycle.py test/ros/test_messages.py

FROM node
