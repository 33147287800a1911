"""Online video semantic segmentation with SAM 2, for ROS 2 and for plain Python."""

import pkgutil

# The generated ROS messages (sam2vss_ros.msg, sam2vss_ros.srv) live in the install space; extending
# the path lets them be found also when this source folder comes first on sys.path.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"
