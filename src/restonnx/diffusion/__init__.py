"""The samplers' mathematics: plain arithmetic that runs on numpy arrays and torch tensors alike."""
