"""Writes the tables of README.md, benchmarks/README.md and the models' cards anew from results/zoo.json.

    python benchmarks/zoo.py

They stand between the lines <!-- zoo:begin --> and <!-- zoo:end -->. `restonnx evaluate --all` measures, and does the
same at its end.
"""

import argparse
from pathlib import Path

from restonnx.training.evaluation.documents import RESULTS, write
from restonnx.training.evaluation.zoo import read_report

ROOT = Path(__file__).parents[1]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for path in write(ROOT, read_report(ROOT / RESULTS)):
        print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
