import os
import pathlib
import re
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from jaxstyle import networks, runtime
from jaxstyle.io import images
from jaxstyle.io import stylize as stylize_room
from jaxstyle.io.outputs import Job
from jaxstyle.io.stylize import stylize_files, stylize_in_styles
from jaxstyle.methods.feedforward import StyleModel, stylize
from jaxstyle.types import InputError

RNG = np.random.default_rng(0)


@pytest.fixture
def jobs(tmp_path):
    """Make pictures of given sizes; return their jobs."""

    def make(*sizes: tuple[int, int], suffix: str = ".png") -> list[Job]:
        result = []
        for index, (height, width) in enumerate(sizes):
            array = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
            source = tmp_path / "in" / f"{index}{suffix}"
            images.write(source, array / 255)
            result.append(Job(source, tmp_path / "out" / source.name))
        return result

    return make


@pytest.fixture
def traces(monkeypatch):
    """Stand in for the network, which takes seconds to compile; record the shapes compiled for."""
    shapes = []

    def negative(model, image, *, strength, preserve_color, parity, precision):
        shapes.append(image.shape)
        return image + strength * (1 - 2 * image)

    monkeypatch.setattr(stylize_room, "stylize", negative)
    return shapes


def bytes_of(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strength": 0.4, "preserve_color": True},
        {"preserve_color": "match"},
        {"preserve_color": "histogram"},
    ],
)
def test_files_hold_what_the_function_gives_whatever_the_batch(jobs, tiny_model, options):
    work = jobs(*[(20, 24)] * 3)
    outcomes = stylize_files(tiny_model, work, batch=2, **options)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    painted = jax.jit(stylize, static_argnames="preserve_color")
    for job in work:
        expected = painted(tiny_model, images.read(job.source).pixels, **options)
        # Another batch size is another program: the last float bit can move a rounding.
        assert np.abs(bytes_of(job.target) - np.rint(expected * 255)).max() <= 1


def test_parity_reaches_the_network(jobs):
    config = networks.TransformerConfig(
        widths=(4, 6), blocks=1, outer_kernels=(3, 3), padding="zero"
    )
    model = StyleModel(networks.init(jax.random.key(0), config), config)
    (job,) = jobs((36, 40))
    painted = {}
    for parity in (False, True):
        stylize_files(model, [job], parity=parity)
        painted[parity] = bytes_of(job.target)
        expected = stylize(model, images.read(job.source).pixels, parity=parity)
        assert np.abs(painted[parity] - np.rint(expected * 255)).max() <= 1
    assert np.abs(painted[True] - painted[False]).max() > 2


def test_strength_zero_copies_to_the_bit(jobs, tiny_model):
    work = jobs((1, 7), (33, 18))
    stylize_files(tiny_model, work, strength=0.0)
    for job in work:
        np.testing.assert_array_equal(bytes_of(job.target), bytes_of(job.source))


def test_a_real_photograph(shared_data, tmp_path, tiny_model):
    source = shared_data / "content" / "chicago.jpg"
    (outcome,) = stylize_files(tiny_model, [Job(source, tmp_path / "painted.jpg")])
    assert outcome.error is None
    painted, photo = bytes_of(tmp_path / "painted.jpg"), bytes_of(source)
    assert painted.shape == photo.shape and np.abs(painted - photo).mean() > 10


@pytest.mark.usefixtures("traces")
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_files_are_changed_by_the_model_alone(jobs, tiny_model, suffix):
    work = jobs((1, 7), (13, 1), (1, 1), (33, 18), suffix=suffix)
    stylize_files(tiny_model, work)
    for job in work:
        np.testing.assert_array_equal(bytes_of(job.target), 255 - bytes_of(job.source))


@pytest.mark.usefixtures("traces")
def test_alpha_profile_and_orientation_go_through(tmp_path, tiny_model, wide_profile):
    array = RNG.integers(0, 256, (12, 20, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    source, target = tmp_path / "a.png", tmp_path / "out.png"
    Image.fromarray(array).save(source, icc_profile=wide_profile, exif=exif)
    stylize_files(tiny_model, [Job(source, target)])
    with Image.open(target) as image:
        assert image.size == (12, 20) and image.info["icc_profile"] == wide_profile
        assert image.getexif().get(0x0112, 1) == 1
        np.testing.assert_array_equal(np.asarray(image)[..., 3], np.rot90(array[..., 3], -1))


@pytest.mark.usefixtures("traces")
def test_lost_transparency_is_told(tmp_path, tiny_model):
    Image.new("RGBA", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    work = [Job(tmp_path / f"{n}.png", tmp_path / f"{n}.jpg") for n in "ab"]
    assert [outcome.flattened for outcome in stylize_files(tiny_model, work)] == [True, False]


def test_each_size_is_compiled_once(jobs, tiny_model, traces):
    sizes = [(16, 20), (20, 16), (16, 20), (16, 20), (20, 16), (16, 20), (16, 20)]
    outcomes = stylize_files(tiny_model, jobs(*sizes), batch=3)
    # Five of one size are 3 + 2, and the second batch is filled up.
    assert traces == [(3, 16, 20, 3), (2, 20, 16, 3)]
    assert [int(outcome.job.source.stem) for outcome in outcomes] == [0, 2, 3, 5, 6, 1, 4]


@pytest.mark.parametrize(
    ("batch", "pixels", "largest"), [(2, 10**6, 2), (9, 3 * 256, 3), (9, 1, 1)]
)
@pytest.mark.usefixtures("traces")
def test_no_more_than_a_batch_is_in_memory(jobs, tiny_model, monkeypatch, batch, pixels, largest):
    work = jobs(*[(16, 16)] * 7)
    monkeypatch.setattr(stylize_room, "BATCH_PIXELS", pixels)
    read, write, lock = images.read, images.write, threading.Lock()
    held = most = 0

    def counted_read(*args, **options):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return read(*args, **options)

    def counted_write(*args, **options):
        nonlocal held
        write(*args, **options)
        with lock:
            held -= 1

    monkeypatch.setattr(images, "read", counted_read)
    monkeypatch.setattr(images, "write", counted_write)
    stylize_files(tiny_model, work, batch=batch)
    assert (held, most) == (0, largest)


@pytest.mark.usefixtures("traces")
def test_what_fails_is_told_and_the_rest_is_done(jobs, tiny_model, tmp_path):
    work = jobs(*[(16, 16)] * 5)
    work[0].source.write_bytes(b"no picture")
    whole = work[2].source.read_bytes()
    work[2].source.write_bytes(whole[: len(whole) // 2])  # the header is fine
    (tmp_path / "file").touch()
    work[3] = Job(work[3].source, tmp_path / "file" / "3.png")
    reported = []
    outcomes = stylize_files(tiny_model, work, report=reported.append)
    assert outcomes == reported
    errors = {outcome.job: outcome.error for outcome in outcomes}
    assert [errors[job] is None for job in work] == [False, True, False, False, True]
    for index, message in ((0, "not a picture"), (2, "truncated"), (3, "cannot be written")):
        assert message in errors[work[index]] and work[index].source.stem in errors[work[index]]
    assert sorted(os.listdir(tmp_path / "out")) == ["1.png", "4.png"]


@pytest.mark.usefixtures("traces")
def test_a_file_that_vanishes_meanwhile_is_told(jobs, tiny_model, monkeypatch):
    work = jobs((16, 16), (16, 16))
    read = images.read

    def late(path, **options):
        if pathlib.Path(path).stem == "0":
            os.unlink(path)
        return read(path, **options)

    monkeypatch.setattr(images, "read", late)
    errors = [outcome.error for outcome in stylize_files(tiny_model, work)]
    assert "there is no file" in errors[0] and errors[1] is None


@pytest.mark.usefixtures("traces")
def test_a_size_the_header_hid_is_painted_all_the_same(jobs, tiny_model, monkeypatch):
    work = jobs((16, 16), (20, 16))
    monkeypatch.setattr(images, "read_size", lambda path, **options: (16, 16))
    assert [outcome.error for outcome in stylize_files(tiny_model, work)] == [None, None]
    assert [bytes_of(job.target).shape for job in work] == [(16, 16, 3), (20, 16, 3)]


def out_of_memory(model, image, **options):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")


def test_a_batch_too_large_for_memory_goes_one_by_one(jobs, tiny_model, monkeypatch):
    def limited(model, image, **options):
        return out_of_memory(model, image) if len(image) > 1 else 1 - image

    monkeypatch.setattr(stylize_room, "stylize", limited)
    work = jobs(*[(16, 16)] * 3)
    assert [outcome.error for outcome in stylize_files(tiny_model, work)] == [None] * 3
    assert len({bytes_of(job.target).tobytes() for job in work}) == 3


def test_a_picture_too_large_for_memory_is_told(jobs, tiny_model, monkeypatch):
    monkeypatch.setattr(stylize_room, "stylize", out_of_memory)
    (outcome,) = stylize_files(tiny_model, jobs((16, 20)))
    assert "0.png': a picture of 20x16 does not fit into this device's memory" in outcome.error


def test_other_failures_of_the_device_are_not_hidden(jobs, tiny_model, monkeypatch):
    def broken(model, image, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(stylize_room, "stylize", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        stylize_files(tiny_model, jobs((16, 20)))


@pytest.mark.parametrize(
    "options",
    [{"strength": 1.1}, {"strength": float("nan")}, {"batch": 0}, {"preserve_color": "hue"}],
)
def test_impossible_options_are_refused(tiny_model, options):
    with pytest.raises(InputError, match=next(iter(options)).replace("_", " ")):
        stylize_files(tiny_model, [], **options)


def test_nothing_to_do_is_fine(tiny_model):
    assert stylize_files(tiny_model, []) == []


def test_pictures_are_refused_before_memory_runs_out(jobs, tiny_model, monkeypatch):
    small, large = work = jobs((20, 24), (400, 240))
    monkeypatch.setattr(runtime, "free_memory", lambda: 3_000_000)
    outcomes = {outcome.job: outcome.error for outcome in stylize_files(tiny_model, work)}
    assert outcomes[small] is None
    assert re.search(
        r"240x400 does not fit .*\(it needs 0.\d GB, 0.0 GB are free\); make", outcomes[large]
    )
    assert small.target.exists() and not large.target.exists()


def test_a_batch_too_large_for_memory_is_painted_one_by_one(jobs, tiny_model, monkeypatch):
    work = jobs(*[(64, 64)] * 3)
    expected = stylize_files(tiny_model, work)
    together = [job.target.read_bytes() for job in work]
    one = _needed(tiny_model, (1, 64, 64, 3))
    assert 2 * one < _needed(tiny_model, (3, 64, 64, 3))
    monkeypatch.setattr(runtime, "free_memory", lambda: 2 * one)  # some for the strength
    for job in work:
        job.target.unlink()
    assert stylize_files(tiny_model, work) == expected
    assert [job.target.read_bytes() for job in work] == together


def _needed(model, shape):
    stack = jax.ShapeDtypeStruct(shape, np.float32)
    needs = jax.jit(stylize).lower(model, stack).compile().memory_analysis()
    return needs.argument_size_in_bytes + needs.temp_size_in_bytes + needs.output_size_in_bytes


# Several models.


@pytest.fixture
def two_models(tiny_model):
    config = tiny_model.config
    return {
        "a": tiny_model,
        "b": StyleModel(networks.init(jax.random.key(1), config), config),
    }


def in_styles(work: list[Job], names) -> dict[str, list[Job]]:
    return {
        name: [Job(job.source, job.target.parent / name / job.target.name) for job in work]
        for name in names
    }


def test_several_models_give_what_each_gives_alone(jobs, two_models):
    work = jobs((20, 24), (20, 24), (20, 24), (9, 40))
    together = in_styles(work, two_models)
    outcomes = stylize_in_styles(two_models, together, batch=2, strength=0.9)
    assert [outcome.error for outcome in outcomes] == [None] * 8
    for name, model in two_models.items():
        stylize_files(model, work, batch=2, strength=0.9)
        for job, own in zip(work, together[name], strict=True):
            np.testing.assert_array_equal(bytes_of(own.target), bytes_of(job.target))
    first, second = (bytes_of(own[0].target) for own in together.values())
    assert np.abs(first - second).max() > 2


def test_models_of_one_architecture_share_a_program_and_a_file_is_read_once(
    jobs, two_models, traces, monkeypatch
):
    config = networks.TransformerConfig(widths=(4, 4), blocks=0, outer_kernels=(3, 3))
    other = StyleModel(networks.init(jax.random.key(2), config), config)
    models = {**two_models, "c": other}
    work, reads = jobs((20, 24), (20, 24), (9, 40)), []
    read = images.read
    monkeypatch.setattr(images, "read", lambda *a, **k: reads.append(a[0]) or read(*a, **k))
    outcomes = stylize_in_styles(models, in_styles(work, models), batch=2)
    assert len(outcomes) == 9
    assert sorted(traces) == [(1, 9, 40, 3)] * 2 + [(2, 20, 24, 3)] * 2
    assert sorted(reads) == sorted(job.source for job in work)


@pytest.mark.usefixtures("traces")
def test_each_model_has_its_own_jobs_and_a_broken_file_fails_in_all(jobs, two_models):
    work = jobs((20, 24), (20, 24))
    work[1].source.write_bytes(b"no picture")
    together = in_styles(work, two_models)
    del together["b"][0]
    outcomes = stylize_in_styles(two_models, together)
    done = [outcome.job for outcome in outcomes if outcome.error is None]
    assert done == [together["a"][0]] and done[0].target.exists()
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    assert {outcome.job for outcome in failed} == {together["a"][1], together["b"][0]}
    assert all("is not a picture" in outcome.error for outcome in failed)
