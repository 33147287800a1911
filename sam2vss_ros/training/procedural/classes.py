"""The classes of the procedural scenes: CamVid's eleven, by id."""

NO_CLASS = -1
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
