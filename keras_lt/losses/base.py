"""The dtype of all losses."""

import keras


class Float32Loss(keras.losses.Loss):
    """Computes in float32 at least.

    `Loss.__call__` casts the labels too: in 16 bits ids above 256 fail.
    """

    @property
    def dtype(self):
        if self._dtype in ("float16", "bfloat16"):
            return "float32"
        return self._dtype

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}
