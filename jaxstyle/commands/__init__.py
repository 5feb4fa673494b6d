"""Commands of `python -m jaxstyle`, a file each; `jaxstyle.cli` lists them.

Each has `add(commands)`, which adds its sub-parser. Nothing heavy is imported before it runs.
"""
