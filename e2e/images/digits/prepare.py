"""Writes the images of handwritten digits as two files: those to train with, and those that are held out.

Data: the 1,797 images of 8 by 8 pixels that scikit-learn carries (UCI, "Optical Recognition of Handwritten Digits").
Every fifth is held out. One of these is reported, with its label, so that it can be shown to the model later on.
"""

import argparse
import json
import os
import random
from pathlib import Path

import numpy

HELD_OUT = 5
# Shades of grey, from white to black.
SHADES = 16


def split():
    """Pixels from 0 to 1 and labels, to train with and held out."""
    # Takes a second or two, and is not needed where the files are read.
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, labels = digits.data / SHADES, digits.target
    held_out = numpy.arange(len(labels)) % HELD_OUT == 0
    return (pixels[~held_out], labels[~held_out]), (pixels[held_out], labels[held_out])


def place(folder, part):
    return Path(folder, f"{part}.npz")


def read(folder, part):
    """Pixels and labels, of `train` or `held-out`."""
    with numpy.load(place(folder, part)) as arrays:
        return arrays["pixels"], arrays["labels"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", required=True, help="the folder for the files")
    options = arguments.parse_args()

    train, held_out = split()
    Path(options.data).mkdir(parents=True, exist_ok=True)
    for part, (pixels, labels) in (("train", train), ("held-out", held_out)):
        numpy.savez(place(options.data, part), pixels=pixels, labels=labels)
    # Chosen before there is a model, and another for each run.
    chosen = random.Random(os.environ.get("TRAINYARD_RUN")).randrange(len(held_out[1]))
    image = " ".join(f"{shade:.0f}" for shade in held_out[0][chosen] * SHADES)
    results = {"training": len(train[1]), "heldOut": len(held_out[1])}
    results |= {"image": image, "label": int(held_out[1][chosen])}
    with open("/dev/termination-log", "w") as log:
        json.dump(results, log)
    print(f"{results['training']} images to train with, {results['heldOut']} held out", flush=True)


if __name__ == "__main__":
    main()
