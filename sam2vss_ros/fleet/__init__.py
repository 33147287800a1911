"""Many bags on many machines: tasks, one for each stretch of a bag, done here or by Ray's workers.

- `stretches.py`  bags, and the stretches that they are cut into
- `tasks.py`      what a task is, and the worker that does one after the other
- `ray_workers.py`  workers on a Ray cluster; those that die are replaced, their task is repeated
- `ray_settings.py`  what Ray has to know before it is imported
- `run.py`        all tasks of a command: what is done is kept and not done again
- `scoring.py`    tasks of `sam2vss evaluate --bags`, and one evaluation made of their results
- `labelling.py`  tasks of `sam2vss label`: label images of a stretch, and the bag made of them
"""
