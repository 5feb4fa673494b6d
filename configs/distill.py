"""Distill large perceptual networks into the embedded one, `jaxstyle/assets/embedded.safetensors`.

    python launch.py --config configs/distill.py --config.data.photos=DIR

Teachers are VGG-19's first blocks and, for the layers above, any network with VGG-19's names; each
may be a file of your own. Hinton et al., Distilling the Knowledge in a Neural Network, 2015, in its
regression form: the student's maps, through a 1x1 readout, tell the teacher's at the same layer,
and their Gram matrices tell the teacher's. Half of each batch are photographs, half are pictures
under optimization against the student as it stands (see jaxstyle/training/counterexamples.py). The
readouts that `jaxstyle.features` has in the student's row of its table stay with the student.

About 0.5 s a step on two CPU cores, 2.5 GB. Expect relative errors from 0.02 (relu1_1) to 0.26
(relu3_3) with two thousand photographs; the result is `WORKDIR/embedded.safetensors`, used by
`--config.features.weights=WORKDIR/embedded.safetensors`.

The variant `smoke` takes seconds and teaches nothing worth having: its teacher is random.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or its smoke variant."""
    variant = common.choose_variant(arg, ("smoke",))
    config = ml_collections.ConfigDict()
    config.experiment = "distill"
    config.seed = 0
    config.steps = 5000

    # What each teacher teaches. With an empty file the published weights of `name` are fetched;
    # 'random' draws them, for a smoke run.
    config.teachers = ml_collections.ConfigDict()
    config.teachers.shallow = ml_collections.ConfigDict()
    config.teachers.shallow.name = "vgg19"
    config.teachers.shallow.weights = ""
    config.teachers.shallow.layers = (
        "relu1_1",
        "relu1_2",
        "relu2_1",
        "relu2_2",
        "relu3_1",
        "relu3_3",
    )
    config.teachers.deep = ml_collections.ConfigDict()
    config.teachers.deep.name = "vgg19"
    config.teachers.deep.weights = ""
    config.teachers.deep.layers = ("relu4_1", "relu4_3", "relu5_1")

    config.student = "embedded"
    config.gram_weight = 0.2  # of the Gram matrices' errors; 0 leaves the maps' alone
    # Of a batch, pictures optimized against the student as it stands; at most half of it.
    config.counterexamples = 4
    config.data = ml_collections.ConfigDict()
    # '' is scikit-image's photographs; a folder or zip of thousands, some paintings among them, is
    # what the network needs.
    config.data.photos = ""
    config.data.size = 96
    config.data.batch = 8
    config.data.scale = (1.0, 2.4)

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 3e-3
    config.log_every = 50
    config.checkpoint = ml_collections.ConfigDict()
    config.checkpoint.every = 250
    config.checkpoint.keep = 2
    if variant == "smoke":
        _smoke(config)
    return common.locked(config)


def _smoke(config: ml_collections.ConfigDict) -> None:
    config.steps = 2
    for teacher in config.teachers.values():
        teacher.weights = "random"
        teacher.name = "embedded"
    config.data.size = 32
    config.data.batch = 2
    config.counterexamples = 1
    config.log_every = 1
    config.checkpoint.every = 1
