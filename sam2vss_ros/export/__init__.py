"""The embedded model for other runtimes, such as TensorRT: its networks as files.

- `stages.py`      the networks as functions of tensors with names, in plain float32
- `onnx_files.py`  ONNX files of them, with what they are in the metadata, and their check
"""
