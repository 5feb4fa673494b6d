"""Optimize a picture in many settings, one after the other in one program, and show them as a grid.

WORKDIR afterwards holds `grid.png`, `config.json`, and for each cell `cells/ROW-COLUMN/` with its
picture, metrics and checkpoints. A finished cell is not painted again.
"""

import itertools
import pathlib
from typing import NamedTuple

import ml_collections
import numpy as np

from experiments import _scene, _work
from jaxstyle import losses, optimize, painter, trainer, workdir
from jaxstyle.io import images, scenes
from jaxstyle.reporting.contact_sheet import contact_sheet
from jaxstyle.types import InputError, unknown_choice

TITLES = {
    "reconstructions": "What each layer keeps: of the content | of the style",
    "content_layers": "Layer of the content by ratio of content to style",
    "style_sets": "Layers of the style by ratio of content to style",
}


class Cell(NamedTuple):
    """One picture of the grid.

    Attributes:
      row: label.
      column: label.
      weights: of the terms; those that are not named are 0.
    """

    row: str
    column: str
    weights: dict[str, float]


def run(config: ml_collections.ConfigDict, folder: pathlib.Path) -> int:
    """Paint all cells, or those that are missing in `folder`, and write the grid.

    Args:
      config: from `configs/reconstruct.py` or `configs/layers_and_ratios.py`.
      folder: the work folder.

    Returns:
      0 when finished, 1 when the numbers of a cell went bad, 128 + signal when interrupted.
    """
    trainer.check_counts(steps=config.steps, save_every=config.save_every)
    if config.scales.smallest:
        raise InputError("a grid is painted in one scale; set scales.smallest to 0.")
    _, scene = _scene.read(config)
    if scene.regions:
        raise InputError("a grid has one style, everywhere; give one, and no masks.")
    scene = _scene.sized(config, scene, _scene.longest(config, scene))
    cells = cells_of(config)
    loaded = _work.perception(config.features)
    work_of = _work.build_many(_with_all_layers(config), scene, loaded)
    # Whatever is wrong shows before a folder is made.
    works = [work_of(_weights(config, cell)) for cell in cells]
    with workdir.claim(folder, config.to_dict()) as claim:
        print(f"work folder: {claim.path} (the same command continues there)", flush=True)
        bad = []
        for number, (cell, work) in enumerate(zip(cells, works, strict=True), 1):
            print(f"cell {number} of {len(cells)}: {cell.row}, {cell.column}", flush=True)
            outcome = _paint(config, claim.path, scene, cell, work)
            if outcome.signal is not None:
                return 128 + outcome.signal
            if outcome.status == optimize.NOT_FINITE:
                bad.append(f"{cell.row}, {cell.column}")
        _show(claim.path, config, scene, cells)
    if bad:
        print(f"the loss became NaN or infinite in: {'; '.join(bad)}", flush=True)
    return 1 if bad else 0


def cells_of(config: ml_collections.ConfigDict) -> list[Cell]:
    """Return the cells of the grid, row by row."""
    grid, part = config.grid, config.objective
    if grid.kind not in tuple(TITLES):
        raise unknown_choice("kind of grid", grid.kind, tuple(TITLES))
    if not grid.layers:
        raise InputError("grid.layers is empty; name at least one layer.")
    sets = [part.style_layers[: count + 1] for count in range(len(part.style_layers))]
    if grid.kind == "reconstructions":
        content = [
            Cell("content", layer, losses.layer_weights("content", (layer,), part.alpha))
            for layer in grid.layers
        ]
        return content + [
            Cell("style", f"to {layers[-1]}", losses.layer_weights("style", layers, part.beta))
            for layers in sets
        ]
    if not grid.ratios:
        raise InputError("grid.ratios is empty; give at least one ratio of content to style.")
    if grid.kind == "content_layers":
        rows = [(layer, layer, part.style_layers) for layer in grid.layers]
    else:
        rows = [(f"to {layers[-1]}", grid.layers[-1], layers) for layers in sets]
    return [
        Cell(
            row,
            f"{ratio:.10g}",
            losses.layer_weights("content", (layer,), ratio * part.beta)
            | losses.layer_weights("style", styles, part.beta),
        )
        for row, layer, styles in rows
        for ratio in grid.ratios
    ]


def _with_all_layers(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Return the config that asks for all layers of the grid: weights then choose among them."""
    config = config.copy_and_resolve_references()
    config.objective.content_layers = config.grid.layers
    config.objective.content_layer_weights = ()
    config.objective.style_layer_weights = ()
    config.objective.chain = 0.0
    return config


def _weights(config: ml_collections.ConfigDict, cell: Cell) -> dict[str, float]:
    terms = [f"content/{layer}" for layer in config.grid.layers]
    terms += [f"style/{layer}" for layer in config.objective.style_layers]
    weights = {"tv": config.objective.tv, **dict.fromkeys(terms, 0.0), **cell.weights}
    losses.check_weights(weights)
    return weights


def _paint(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    scene: scenes.Scene,
    cell: Cell,
    work: painter.Work,
) -> painter.Outcome:
    own = _folder(folder, cell)
    own.mkdir(parents=True, exist_ok=True)

    def save(_: int, pixels: np.ndarray) -> None:
        images.write(own / "picture.png", _scene.finished(config, scene, pixels))

    outcome = painter.paint(
        work,
        workdir=own,
        steps=config.steps,
        chunk=_work.chunk(config),
        save_every=config.save_every,
        keep=1,
        display_weights={name: weight for name, weight in cell.weights.items() if weight},
        on_save=save,
    )
    save(outcome.step, np.asarray(work.picture(outcome.state)))
    return outcome


def _folder(folder: pathlib.Path, cell: Cell) -> pathlib.Path:
    return folder / "cells" / f"{cell.row}-{cell.column}".replace(" ", "-")


def _show(
    folder: pathlib.Path, config: ml_collections.ConfigDict, scene: scenes.Scene, cells: list[Cell]
) -> None:
    """Write the grid, the given pictures in its first column, and say where it is."""
    rows: dict[str, list[np.ndarray]] = {}
    for cell in cells:
        file = _folder(folder, cell) / "picture.png"
        rows.setdefault(cell.row, []).append(images.read(file).pixels)
    given = {"content": scene.content, "style": scene.styles[0]}
    if config.grid.kind == "reconstructions":
        sheet = [[given[row], *pictures] for row, pictures in rows.items()]
        pairs = itertools.zip_longest(
            *([cell.column for cell in cells if cell.row == row] for row in rows), fillvalue=""
        )
        columns = ["given", *(" | ".join(pair) for pair in pairs)]
    else:
        sheet = list(rows.values())
        columns = list(dict.fromkeys(cell.column for cell in cells))
        contact_sheet([list(given.values())], folder / "given.png", column_labels=list(given))
    contact_sheet(
        sheet,
        folder / "grid.png",
        row_labels=list(rows),
        column_labels=columns,
        title=TITLES[config.grid.kind],
        cell=max(16, *scene.content.shape[:2]),
    )
    print(f"  {'grid':<14} {folder / 'grid.png'}", flush=True)
    print(f"  {'cells':<14} {folder / 'cells'}", flush=True)
