"""What the tests with real nodes share."""

from ros_fixtures import ros, start

__all__ = ["ros", "start"]
