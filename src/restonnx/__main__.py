"""`python -m restonnx` does what the command `restonnx` does."""

from restonnx.cli import main

main()
