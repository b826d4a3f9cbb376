"""Long-tailed image recognition on TensorFlow and Keras."""

__version__ = "0.1.0"
