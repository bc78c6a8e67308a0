"""Make the photograph of `restonnx demo`: a part of scikit-image's coffee (CC0, by Rachel Michetti).

python benchmarks/make_demo.py src/restonnx/zoo/photograph.webp
"""

import sys
from pathlib import Path

from PIL import Image
from skimage import data


def main(out: Path) -> None:
    Image.fromarray(data.coffee()[40:360, 100:580]).save(out, quality=98, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
