"""Judge a trained style network on held-out photographs with VGG-19's own features.

    python benchmarks/quality.py --model runs/starry_fast-*/model --style starry --photos DIR \\
        --weights vgg19.npz

Per photograph and as means it prints, for the photograph as it is and for its stylized version:

* style: relative Gram distance to the painting, mean over relu1_1, relu2_1, relu3_1 (squared
norms);
* color: sliced Wasserstein distance of RGB to the painting;
* content: relative distance of relu3_3 to the photograph's (squared norms, and its root);
* SSIM: structural similarity with the photograph.

Goals of the default recipe: style at least 85% below the photographs', color 60% below, content at
most 0.7. `--sheet FILE` writes photographs and results side by side.
"""

import argparse
import json
import pathlib

from jaxstyle import runtime

runtime.setup()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jaxstyle import metrics  # noqa: E402
from jaxstyle.data import open_photos  # noqa: E402
from jaxstyle.io import images, models  # noqa: E402
from jaxstyle.io.paintings import painting_file  # noqa: E402
from jaxstyle.methods import stylize  # noqa: E402
from jaxstyle.reporting.contact_sheet import contact_sheet  # noqa: E402
from jaxstyle.weights import load_weights  # noqa: E402

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1")
CONTENT_LAYER = "relu3_3"


def main() -> None:
    """Print the table."""
    args = _parse()
    weights = load_weights("vgg19", args.weights)
    model, _ = models.load_model(args.model)
    painting = jnp.asarray(images.resize_shorter(_style(args.style), args.style_size))
    judge = metrics.prepare_judge(
        weights.params, weights.network, painting, STYLE_LAYERS, CONTENT_LAYER
    )
    paint, rows, sheet = jax.jit(stylize), [], []
    for photo in _photos(args):
        painted = paint(model, photo)
        rows.append(metrics.judge(judge, photo, painted))
        sheet.append([np.asarray(photo), np.asarray(painted)])
    _report(rows)
    if args.sheet:
        pairs = [sum(sheet[i : i + 3], []) for i in range(0, len(sheet), 3)]
        contact_sheet(pairs, args.sheet)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(metrics.summarize(rows), indent=2) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="model folder or name")
    parser.add_argument("--photos", default="", help="folder or zip; default: scikit-image's")
    parser.add_argument("--weights", default="", help="VGG-19 file; default: the published one")
    parser.add_argument("--style", default="starry", help="the painting")
    parser.add_argument("--style_size", type=int, default=384, help="its shorter side")
    parser.add_argument("--count", type=int, default=20, help="photographs")
    parser.add_argument("--size", type=int, default=256, help="their shorter side")
    parser.add_argument("--sheet", default="", help="picture to write")
    parser.add_argument("--json", default="", help="file for the means")
    return parser.parse_args()


def _style(image: str) -> np.ndarray:
    return images.read(painting_file(image)).pixels


def _photos(args: argparse.Namespace) -> list[jax.Array]:
    photos = open_photos(args.photos)
    count = min(args.count, len(photos))
    chosen = [photos[i * len(photos) // count].astype(np.float32) / 255 for i in range(count)]
    return [jnp.asarray(images.resize_shorter(pixels, args.size)) for pixels in chosen]


def _report(rows: list[dict[str, float]]) -> None:
    print("photo  style before -> after   color before -> after   content     SSIM")
    for i, r in enumerate(rows):
        print(
            f"{i:5d}  {r['style_photo']:12.3f} -> {r['style']:5.3f}   "
            f"{r['color_photo']:12.3f} -> {r['color']:5.3f}   {r['content']:7.3f}  {r['ssim']:7.3f}"
        )
    mean = metrics.summarize(rows)
    print(
        f"means: style {mean['style_below']:.1%} below the photographs', color "
        f"{mean['color_below']:.1%} below, content distance {mean['content']:.3f} "
        f"(root {mean['content_root']:.3f}), SSIM {mean['ssim']:.3f}"
    )


if __name__ == "__main__":
    main()
