"""Commands that need more than the base installation say how to get it."""

from importlib.util import find_spec

from restonnx.cli.console import fail


def need(*modules: str, extra: str = "train") -> None:
    """Leave with one line that gives the pip command unless all these modules are installed."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        fail(f'this command needs {" and ".join(missing)}: pip install "restonnx[{extra}]"')
