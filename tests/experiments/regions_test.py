"""Where styles go: masks, several styles, a picture without borders; and directions drawn anew."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import gatys
from experiments import _scene, _work, paint_picture
from jaxstyle import policy
from jaxstyle.io import images

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    with policy.formulation("plain"):
        yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def config(pictures):
    """Style alone, from the content on; one program does all the steps."""
    config = gatys.get_config("smoke")
    config.content, config.style = str(pictures / "gray.png"), str(pictures / "red.png")
    config.size = "32"
    config.objective.content_layers = ()
    config.objective.style_layers = ("relu1_1", "relu2_1")
    config.objective.tv = 0.0
    config.solver.memory = 3
    config.steps = config.save_every = 20
    return config


def built(config):
    _, scene = _scene.read(config)
    scene = _scene.sized(config, scene, _scene.longest(config, scene))
    return _work.build(config, scene, _work.perception(config.features))[0], scene


def painted(config):
    work, scene = built(config)
    state, _ = work.advance(work.start(), config.steps)
    return _scene.finished(config, scene, np.asarray(work.picture(state)))


def redness(pixels):
    return float(np.mean(pixels[..., 0] - pixels[..., 2]))


@pytest.mark.parametrize("margin", [0, 4])
def test_a_mask_keeps_its_style_inside(config, pictures, tmp_path, margin):
    """What relu2_1 sees is 10 pixels wide, so no neuron reaches further than 9 beyond a mask."""
    config.masks = (str(pictures / "left.png"),)
    config.margin = margin
    assert paint_picture.run(config, tmp_path / "run") == 0
    after = images.read(tmp_path / "run" / "picture.png").pixels
    change = np.abs(after - images.read(pictures / "gray.png").pixels).max((0, 2))
    assert change[:16].min() > 0.05
    assert change[16 + 9 :].max() <= 1.1 / 255  # a sigmoid's ends are not those of bytes
    assert redness(after[:, :16]) > 0.05 > 0.005 > abs(redness(after[:, 25:]))


def test_each_region_gets_its_style_and_the_rest_the_other(config, changed, pictures):
    config.objective.style_layers = ("relu1_1",)
    masks = (str(pictures / "left.png"), "rest")
    sides = []
    for names in (("red", "blue"), ("blue", "red")):
        styles = tuple(str(pictures / f"{name}.png") for name in names)
        after = painted(changed(config, {"style": styles, "masks": masks}))
        sides.append([redness(after[:, :12]), redness(after[:, 20:])])
    (left_red, right_blue), (left_blue, right_red) = sides
    assert left_red > left_blue + 0.1 and right_red > right_blue + 0.1


def test_only_the_part_of_a_style_that_its_mask_shows_is_taken(config, pictures):
    config.style = str(pictures / "red_and_blue.png")
    whole = painted(config)
    config.style_masks = (str(pictures / "left_of_style.png"),)
    part = painted(config)
    assert redness(part) > redness(whole) + 0.1


def test_a_style_without_weight_is_none(config, changed, pictures):
    config.steps = config.save_every = 8  # before L-BFGS makes much of the last digits
    alone = painted(config)
    styles = (str(pictures / "blue.png"), str(pictures / "red.png"))
    both = changed(config, {"style": styles, "style_weights": (0.0, 2.0)})
    np.testing.assert_allclose(painted(both), alone, atol=0.2 / 255)


def test_with_brightness_alone_the_content_keeps_its_colors(config, pictures):
    config.content, config.color.style = str(pictures / "content.png"), "luminance"
    before, after = images.read(config.content).pixels, painted(config)
    assert np.abs(after - before).mean() > 3e-3
    inside = ((after > 0.001) & (after < 0.999)).all(-1)
    assert inside.mean() > 0.5
    for one, other in ((0, 1), (1, 2)):  # adding brightness keeps differences
        kept = (after - before)[..., one] - (after - before)[..., other]
        assert np.abs(kept[inside]).max() < 0.01


def test_a_seamless_picture_has_no_place_where_it_begins(config, pictures):
    """Begun from a rolled picture, it becomes the rolled result."""
    config.content, config.size, config.start = "none", "48x32", "noise"
    config.style, config.seamless, config.margin = str(pictures / "style.png"), True, 0
    config.objective.tv = 0.5
    work, _ = built(config)
    begun, shift = work.start(), (16, -16)
    numbers = jnp.roll(begun.numbers, shift, (0, 1))
    rolled = dataclasses.replace(work.start(), numbers=numbers, good=jnp.copy(numbers))
    one, other = (work.picture(work.advance(s, config.steps)[0]) for s in (begun, rolled))
    assert one.shape == (32, 48, 3)
    assert np.abs(one - other).mean() > 0.05
    np.testing.assert_allclose(jnp.roll(one, shift, (0, 1)), other, atol=3e-3)


def test_directions_are_drawn_for_every_chunk_and_measured_along_the_first(config):
    config.objective.style_statistic = "sliced"
    config.save_every = 2
    work, _ = built(config)

    def at(step):
        return dataclasses.replace(work.start(), step=jnp.int32(step))

    first, within, next_chunk, again = (
        float(work.advance(at(step), 2)[1][0]) for step in (0, 1, 2, 0)
    )
    assert first == within == again
    assert abs(next_chunk - first) > 1e-3 * first
    numbers = [float(work.measure(at(step))["loss"]) for step in (0, 2, 7)]
    assert numbers == [pytest.approx(first, rel=1e-4)] * 3
