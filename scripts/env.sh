# shellcheck shell=bash
# Source this in bash after scripts/setup, scripts/demo or scripts/test has run once:
#
#     . scripts/env.sh
#
# puts `sam2vss`, `vss_node` and Python with rclpy and sam2vss_ros.msg on the path.

_vss_env() {
  local root ros prefix
  root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  if [ ! -f "$root/install/.inputs" ] || [ ! -f "$root/.venv/ros" ]; then
    echo "scripts/env.sh: nothing is set up yet; run $root/scripts/setup first" >&2
    return 1
  fi
  ros="$(cat "$root/.venv/ros")"
  if [ "$ros" != "${ROS_DISTRO:-wheels}" ]; then
    echo "scripts/env.sh: .venv was set up for ROS 2 '$ros', this shell has" \
      "'${ROS_DISTRO:-none}': run $root/scripts/setup, or source the setup.bash of '$ros'" >&2
    return 1
  fi

  . "$root/.venv/bin/activate"
  if [ "$ros" = wheels ]; then
    # Only this machine hears us, and whole images fit the shared memory.
    export AMENT_PREFIX_PATH="$VIRTUAL_ENV"
    export ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT
    export FASTDDS_DEFAULT_PROFILES_FILE="$root/sam2vss_ros/ros/loopback.xml"
    export ROS_LOG_DIR="$root/log/ros"
  fi
  . "$root/install/local_setup.bash"
  prefix="$root/install/sam2vss_ros"
  case ":$PATH:" in
    *":$prefix/lib/sam2vss_ros:"*) ;;
    *) export PATH="$prefix/lib/sam2vss_ros:$PATH" ;;
  esac
}

# What is sourced here reads unset variables and runs commands that may fail: the caller's
# `set -e` and `set -u` rest meanwhile.
_vss_flags=$-
set +eu
_vss_env
_vss_status=$?
case $_vss_flags in *u*) set -u ;; esac
case $_vss_flags in *e*) set -e ;; esac
unset -f _vss_env
unset _vss_flags
eval "unset _vss_status; return $_vss_status"
