"""Networks that are built, traced and exported in a moment."""

import keras

from keras_lt import layers


def convolutional(input_shape=(8, 8, 3), l2: float = 0.0) -> keras.Model:
    """Two convolutions with all that a ResNet has but depth: 64 features."""
    images = keras.Input(input_shape, dtype="uint8")
    maps = layers.ImageNormalization(
        [80.0] * input_shape[-1], [80.0**2] * input_shape[-1]
    )(images)
    for filters in (8, 64):
        maps = keras.layers.Conv2D(
            filters,
            3,
            2,
            use_bias=False,
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
        )(maps)
        maps = layers.FusedBatchNormalization()(maps)
        maps = keras.layers.ReLU()(maps)
    features = keras.layers.GlobalAveragePooling2D()(maps)
    return keras.Model(images, features, name="convolutional")
