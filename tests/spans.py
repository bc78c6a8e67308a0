"""Parts of an axis, for tests of regions."""

from __future__ import annotations

from hypothesis import strategies as st


def spans(length: int) -> st.SearchStrategy[slice]:
    """Slices of at least one of the indices 0..length-1."""
    pairs = st.tuples(st.integers(0, length - 1), st.integers(1, length))
    return pairs.map(lambda pair: slice(min(pair), max(pair) + (pair[0] >= pair[1])))
