from __future__ import annotations

import subprocess
import sys

import pytest

import index.filters as package


def test_what_a_filter_says_is_known_without_numpy_and_faiss() -> None:
    """The server's supervisor holds neither: it decodes nothing and searches nothing."""
    heavy = "print(*sorted({'numpy', 'faiss', 'numba'} & set(sys.modules)))"
    said = f"import server.domain, server.filter_decoding, sys; {heavy}"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_everything_that_the_package_names_is_there() -> None:
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018
