"""Pictures and models on disk.

`images`: picture files. `models`: model folders. `inputs`, `outputs`, `stylize`: many files.

Nothing is imported here, so that a front door can prepare the process before JAX starts.
"""
