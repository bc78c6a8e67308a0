"""Networks that the samplers call at every step."""
