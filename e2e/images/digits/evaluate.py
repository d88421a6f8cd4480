"""Says how well a trained network does on images that it has not seen."""

import argparse
import collections
import json

from network import Network
from prepare import read


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", required=True, help="the folder that prepare.py has written to")
    arguments.add_argument("--model", required=True, help="the folder that train.py has written the network to")
    options = arguments.parse_args()

    pixels, labels = read(options.data, "held-out")
    network = Network.read(options.model)
    classes = network.classes(pixels)
    right = int((classes == labels).sum())
    wrong = collections.Counter((int(label), int(said)) for label, said in zip(labels, classes) if label != said)
    results = {"accuracy": round(right / len(labels), 4), "heldOut": len(labels), "digest": network.digest}
    with open("/dev/termination-log", "w") as log:
        json.dump(results, log)
    print(f"{right} of {len(labels)} held-out images are recognized: accuracy {results['accuracy']}")
    for (label, said), count in wrong.most_common(3):
        print(f"{label} was taken for {said}: {count}")


if __name__ == "__main__":
    main()
