"""FREEZE: a network and its sampler become one ONNX graph; needs torch and onnx (`pip install "restonnx[train]"`)."""
