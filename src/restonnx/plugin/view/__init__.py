"""What needs Qt and napari: loaded by the manifest's commands alone, never by `import restonnx`."""
