"""A trained network as a file, weights.json: written by what trains it, read by what evaluates and what serves it.

The file is an object with `layers`. Each has `weights`, a row for each of its outputs, and `bias`, a number for each;
between two layers stands a ReLU. A network of one layer may also be written as that layer alone.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy

FILE = "weights.json"


class Network:
    """Layers, as pairs of weights and bias; and the SHA-256 of the file that they are from, in hexadecimal."""

    def __init__(self, layers, digest):
        self.layers = [(numpy.array(weights), numpy.array(bias)) for weights, bias in layers]
        self.digest = digest

    @classmethod
    def read(cls, folder):
        # Read once: the digest is that of what is used, whatever becomes of the file.
        content = Path(folder, FILE).read_bytes()
        model = json.loads(content)
        layers = [(layer["weights"], layer["bias"]) for layer in model.get("layers", [model])]
        return cls(layers, hashlib.sha256(content).hexdigest())

    def classes(self, samples):
        """The class of each sample, a row of numbers."""
        values = samples
        for position, (weights, bias) in enumerate(self.layers):
            if position:
                values = numpy.maximum(values, 0)
            values = values @ weights.T + bias
        return values.argmax(axis=1)


def write(folder, layers):
    """Writes pairs of weights and bias, whole or not at all, and answers the file's digest."""
    layers = [{"weights": weights, "bias": bias} for weights, bias in layers]
    content = json.dumps({"layers": layers}).encode()
    Path(folder).mkdir(parents=True, exist_ok=True)
    partial = Path(folder, FILE + ".partial")
    partial.write_bytes(content)
    os.replace(partial, Path(folder, FILE))
    return hashlib.sha256(content).hexdigest()
