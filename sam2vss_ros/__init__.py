"""Online video semantic segmentation with SAM 2, for ROS 2 and for plain Python."""

import os
import pkgutil

# The generated ROS messages (sam2vss_ros.msg, sam2vss_ros.srv) live in the install space; extending
# the path lets them be found also when this source folder comes first on sys.path.
__path__ = pkgutil.extend_path(__path__, __name__)

# torch's CPU threads spin while they wait for each other; where anything else wants a core (on a
# robot something always does) frames become several times slower. It counts if set before torch
# loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
