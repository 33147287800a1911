"""Flat things of the procedural scenes: people, cyclists, trees, poles, signs and plain shapes.

A design is drawn once per process in a part map (clothes, skin, crown, trunk ...); each object in
a scene takes a design and paints its parts in colours of its own. A design is a tuple of phases
(the steps of a walk, one phase for what does not move).
"""
