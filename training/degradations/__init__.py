"""Synthetic damage, one file per task; each is a seeded function of a clean batch, on the CPU or a GPU."""
