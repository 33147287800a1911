"""Region ids of a street."""

# The regions every street has; things get the ids from FIRST_THING on.
SKY_REGION, BACKDROP_REGION, ROAD_REGION, LEFT_PAVEMENT, RIGHT_PAVEMENT, VERGE = range(1, 7)
FIRST_THING = 7
_MAX_REGION = 65535


class Regions:
    """The regions in use and their classes; an id is given again only after all others."""

    def __init__(self) -> None:
        self.classes: dict[int, int] = {}
        self._next = FIRST_THING

    def add(self, class_id: int) -> int:
        """The id of a new region of this class."""
        while self._next in self.classes:
            self._next = self._next % _MAX_REGION + 1
        self.classes[self._next] = class_id
        return self._next
