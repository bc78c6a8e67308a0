"""Networks whose parameters and buffers bear the names of the published checkpoints, so that those load strictly."""
