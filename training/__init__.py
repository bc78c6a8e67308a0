"""LEARN: networks, degradations, objectives and the loop that trains them (`pip install "restonnx[train]"`)."""
