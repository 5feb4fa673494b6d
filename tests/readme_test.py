"""The README's example runs as it stands, and its files and commands exist."""

import re

import jax
import numpy as np
from PIL import Image

import jaxstyle
from jaxstyle import networks
from jaxstyle.methods import StyleModel


def test_library_example_runs(repository, tmp_path, monkeypatch):
    text = (repository / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 20
    monkeypatch.chdir(tmp_path)
    config = networks.TransformerConfig(widths=(4, 6, 8), blocks=1)
    model = StyleModel(networks.init(jax.random.key(0), config), config)
    jaxstyle.save_model("runs/starry_fast/model", model, {})
    Image.effect_noise((33, 47), 60).convert("RGB").save("photo.jpg")
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    with Image.open("painted.png") as painted:
        assert painted.size == (33, 47)
    for value in jax.tree.leaves(names["targets"]):
        assert np.isfinite(value).all()


def test_links_lead_somewhere(repository):
    for page in ["README.md", "CONTRIBUTING.md", *repository.glob("docs/*.md")]:
        page = repository / page
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_recipe_is_in_the_table(repository):
    text = (repository / "README.md").read_text()
    for path in repository.glob("configs/*.py"):
        if path.stem != "common":
            assert f"configs/{path.name}" in text, path.name
