"""The napari face. What stands here knows no Qt and is tested without a viewer; what shows it lies in `view`."""
