"""Says at import, before all else, that Keras is not on TensorFlow."""

try:
    import keras

    _found = keras.config.backend()
except ModuleNotFoundError as error:
    _found = error.name  # Keras imports its backend
    if _found in ("keras", "tensorflow"):
        raise
except ValueError as error:  # of a name that Keras does not know
    _found = f"none ({error})"

if _found != "tensorflow":
    raise ImportError(
        "Expected Keras on TensorFlow, for keras_lt (KERAS_BACKEND=tensorflow, "
        'or "backend": "tensorflow" in ~/.keras/keras.json). '
        f"Received: Keras on {_found}"
    )
