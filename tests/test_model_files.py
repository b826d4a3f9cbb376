"""Models and weights in files: damaged ones, and those of other models."""

import keras
import numpy as np
import pytest

from keras_lt import models


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_damaged_models_are_one_error(name, tmp_path):
    """Each of many flipped bytes, in every part of the file."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    path = tmp_path / name
    model.save(path) if name == "model.keras" else model.save_weights(path)
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 60)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            if name == "model.keras":
                models.load_model(path)
            else:
                models.load_weights(model, path)
        except ValueError as error:
            assert str(path) in str(error)


def test_weights_of_another_model(tmp_path):
    inputs = keras.Input((4,))
    small = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    hidden = keras.layers.Dense(3)(inputs)
    large = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    small.save_weights(tmp_path / "small.weights.h5")
    before = [np.array(weight) for weight in large.get_weights()]
    with pytest.raises(ValueError, match=r"model functional.*small\.weights"):
        models.load_weights(large, tmp_path / "small.weights.h5")
    assert len(before) == 4
