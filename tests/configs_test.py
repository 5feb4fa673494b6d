"""Every recipe parses, holds values only, and fits the code that will run it."""

import importlib
import json
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from jaxstyle import features, losses, networks, workdir
from jaxstyle.io.painting_catalog import PAINTINGS
from jaxstyle.sweeps import grammar
from jaxstyle.training import optimizers
from jaxstyle.types import InputError

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
NAMES = sorted(p.stem for p in (REPOSITORY / "configs").glob("[!_]*.py") if p.stem != "common")


def variants_of(name: str) -> list[str]:
    """The variants as the config itself tells them, '' first."""
    with pytest.raises(ValueError, match="unknown variant 'no-such'; this config has ") as caught:
        config_of(name, "no-such")
    return ["", *str(caught.value).partition(" has ")[2].split(", ")]


def config_of(name: str, variant: str = "") -> ml_collections.ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config(variant)


ALL = [(name, variant) for name in NAMES for variant in variants_of(name)]
FEEDFORWARD = [pair for pair in ALL if config_of(*pair).experiment == "train_feedforward"]


def test_the_recipes_are_found():
    assert {"distill", "paint_starry", "shipped_models", "starry_fast"} <= set(NAMES)
    assert variants_of("starry_fast") == ["", "smoke", "full", "paper", "reference"]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_has_a_smoke_variant_and_says_its_command_and_variants(name):
    doc = importlib.import_module(f"configs.{name}").__doc__
    assert f"    python launch.py --config configs/{name}.py" in doc
    assert "smoke" in variants_of(name)
    for variant in variants_of(name)[1:]:
        assert f"`{variant}`" in doc


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_a_config_is_locked_values_that_json_can_hold(name, variant):
    config = config_of(name, variant)
    assert config.is_locked
    with pytest.raises(AttributeError):
        config.stpes = 3
    flat = workdir.flatten(config.to_dict())
    for key, value in flat.items():
        assert isinstance(value, bool | int | float | str | tuple), key
        for item in value if isinstance(value, tuple) else ():
            assert isinstance(item, int | float | str), key
    lists = {key: list(v) if isinstance(v, tuple) else v for key, v in flat.items()}
    assert json.loads(json.dumps(flat)) == lists
    assert not re.search(r"NaN|Infinity", json.dumps(flat))


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_every_call_gives_a_config_of_its_own(name, variant):
    first, second = config_of(name, variant), config_of(name, variant)
    assert first.to_dict() == second.to_dict()
    first.seed = first.seed + 1
    assert config_of(name, variant).seed == second.seed != first.seed


@pytest.mark.parametrize("name", NAMES)
def test_the_experiment_exists(name):
    for variant in variants_of(name):
        experiment = importlib.import_module(f"experiments.{config_of(name, variant).experiment}")
        assert callable(experiment.run)


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_has_the_keys_of_the_default(name):
    """So a flag that works with one works with all."""
    keys = workdir.flatten(config_of(name).to_dict()).keys()
    for variant in variants_of(name)[1:]:
        assert workdir.flatten(config_of(name, variant).to_dict()).keys() == keys


# Sweeps.


def sweeps_of(name: str) -> list[str]:
    return [word for word in vars(importlib.import_module(f"configs.{name}")) if SWEEP.match(word)]


SWEEP = re.compile("sweep(_|$)")
SWEEPS = [(name, function) for name in NAMES for function in sweeps_of(name)]


def points_of(name: str, function: str) -> list[dict[str, Any]]:
    return list(getattr(importlib.import_module(f"configs.{name}"), function)())


def test_the_sweeps_are_found():
    assert {("gatys", "sweep"), ("gatys", "sweep_layers")} <= set(SWEEPS)


@pytest.mark.parametrize(("name", "function"), SWEEPS)
def test_a_sweep_sets_keys_of_its_config_to_values_of_their_types(name, function):
    points = points_of(name, function)
    for variant in variants_of(name):
        settings = workdir.flatten(config_of(name, variant).to_dict())
        axis = grammar.named(function, points, settings)
        assert len(axis.points) == len(points) > 1
        for point in axis.points:
            for key, value in point.items():
                assert type(value) is type(settings[key]), key
        assert len(grammar.cross([axis])) == len(points)  # not too many


@pytest.mark.parametrize(("name", "function"), SWEEPS)
def test_a_sweep_that_repeats_itself_or_misses_a_type_is_refused(name, function):
    """That is, the test above can fail."""
    settings = workdir.flatten(config_of(name).to_dict())
    points = points_of(name, function)
    with pytest.raises(InputError, match="twice; give each once"):
        grammar.named(function, [*points, points[0]], settings)
    for key in points[0]:
        wrong = [{**points[0], key: {}}]
        with pytest.raises(InputError, match=f"{key}: '{{}}' is not"):
            grammar.named(function, wrong, settings)


@pytest.mark.parametrize("name", sorted({name for name, _ in SWEEPS}))
def test_the_docstring_names_the_sweeps(name):
    doc = importlib.import_module(f"configs.{name}").__doc__
    for function in sweeps_of(name):
        assert f"`{function.removeprefix('sweep').removeprefix('_') or 'default'}`" in doc


# Style networks.


@pytest.mark.parametrize(("name", "variant"), FEEDFORWARD)
def test_network_takes_the_crops(name, variant):
    config = config_of(name, variant)
    network = networks.TransformerConfig(**config.network)
    shape = (config.data.batch, config.data.size, config.data.size, 3)
    variables = jax.eval_shape(lambda key: networks.init(key, network), jax.random.key(0))
    painted, _ = jax.eval_shape(
        lambda v, x: networks.apply_train(v, x, network),
        variables,
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    assert painted.shape == shape


@pytest.mark.parametrize(("name", "variant"), FEEDFORWARD)
def test_objective_exists_on_the_variants_network(name, variant):
    config = config_of(name, variant)
    experiment = importlib.import_module("experiments.train_feedforward")
    network = features.network(config.features.name)
    problem, weights = experiment.problem_of(config, network)
    for layer in problem.layers:
        assert layer in network.layers and layer.startswith("relu")
    assert config.data.size >= 2 ** max(int(layer[4]) - 1 for layer in problem.layers)
    terms = {
        *(f"content/{layer}" for layer in config.content.layers),
        *(f"style/{layer}" for layer in config.style.layers),
        "tv",
    }
    assert set(weights) == terms
    assert all(weight > 0 for weight in weights.values())
    style = sum(weight for term, weight in weights.items() if term.startswith("style/"))
    assert style == pytest.approx(config.style.weight)
    assert config.style.image in PAINTINGS


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_optimizer_can_be_made(name, variant):
    config = config_of(name, variant)
    if "optimizer" in config:
        schedule = config.optimizer.get("schedule", "cosine")
        assert schedule in optimizers.SCHEDULES
        optimizers.adam(config.optimizer.learning_rate, schedule=schedule, steps=config.steps)


def test_the_papers_recipes_are_those_of_the_docstring():
    paper, reference = config_of("starry_fast", "paper"), config_of("starry_fast", "reference")
    for config in (paper, reference):
        assert (config.steps, config.data.batch, config.data.size) == (40_000, 4, 256)
        assert (config.optimizer.schedule, config.optimizer.learning_rate) == ("constant", 1e-3)
        assert config.style.layers == ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
        assert config.style.statistic == "gram"
        assert (config.features.name, config.features.pooling) == ("vgg16", "")
        assert networks.TransformerConfig(**config.network).start_padding == 40
        assert features.network("vgg16").pooling == "max"
    assert (paper.content.layers, reference.content.layers) == (("relu2_2",), ("relu3_3",))
    assert (paper.network.norm, reference.network.norm) == ("batch", "instance")
    # 1e-6 on pixels in [0, 255] is the same loss as the config's weight on pixels in [0, 1]; the
    # released code adds it to each of the four images' share.
    image = jnp.linspace(0, 1, 48).reshape(4, 4, 3) ** 2
    for config, factor in ((paper, 1), (reference, 4)):
        here = config.tv.weight * losses.variation(image, kind=config.tv.kind)
        there = factor * 1e-6 * losses.variation(255 * image, kind=config.tv.kind)
        assert float(here) == pytest.approx(float(there), rel=1e-5)


# Distillation.


@pytest.mark.parametrize("variant", variants_of("distill"))
def test_teachers_and_student_share_the_layers(variant):
    config = config_of("distill", variant)
    student = features.network(config.student)
    taught = []
    for teacher in config.teachers.values():
        taught += teacher.layers
        assert set(teacher.layers) <= set(features.network(teacher.name).layers)
    assert len(taught) == len(set(taught))
    assert set(taught) <= set(student.layers)
