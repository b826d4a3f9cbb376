"""What the outputs of a run are made from, so that none is taken for others'.

Flags name files and folders, whose content may change between the starts of a
run, as may some flags themselves.
"""

import functools
import hashlib
import json
import os

import keras
import numpy as np
import workdir as workdirs

from keras_lt import datasets

FILE = "made_from.json"


@functools.lru_cache(maxsize=1)
def of_images(dataset: datasets.Dataset) -> str:
    """Tells data sets apart by labels, and by pixels or the names of files."""
    digest = hashlib.sha256(
        repr((dataset.class_names, dataset.image_shape)).encode()
    )
    digest.update(np.ascontiguousarray(dataset.labels))
    if isinstance(dataset, datasets.FileDataset):
        for index in range(len(dataset)):
            name = os.path.basename(dataset.name(index))  # folders may move
            digest.update(f"{name}\n".encode("utf-8", "surrogatepass"))
    else:
        digest.update(np.ascontiguousarray(dataset.images))
    return digest.hexdigest()


def of_model(model: keras.Model) -> str:
    """Tells models apart by their weights."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(repr((weight.shape, str(weight.dtype))).encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def hold(run: workdirs.Workdir, **made_from: str) -> bool:
    """Refuses to go on with what an earlier start made of something else.

    Args:
        run: The run.
        **made_from: Digests by the names of what they are of.

    Returns:
        Whether an earlier start was made from the same.

    Raises:
        ValueError: If an earlier start was made from something else.
    """
    path = run.path / FILE
    if not path.exists():
        run.write(FILE, lambda part: part.write_text(json.dumps(made_from)))
        return False
    try:
        found = dict(json.loads(path.read_text("utf-8")))
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected what a run keeps of its origins. Received: {path} "
            f"({error})"
        ) from error
    other = [name for name in made_from if made_from[name] != found.get(name)]
    if other:
        raise ValueError(
            f"Expected what the run in {run.path} was made from (or another "
            f"--workdir, or --overwrite). Received: other {' and '.join(other)}"
        )
    return True
