"""Serves the classifier beside this file as the model `digits`, by HTTP on port 8080 and by gRPC on port 8081.

Nothing but a temporary folder is written to, and any user will do.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

SETTINGS = {
    "debug": False,
    # One process, so that SIGTERM reaches the one that answers.
    "parallel_workers": 0,
    "metrics_endpoint": None,
}


def main():
    # As process 1 of its container it would not hear SIGTERM before the server is there.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # The classifier says which version it is.
    model = {"name": "digits", "implementation": "classifier.Classifier", "parameters": {}}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "settings.json").write_text(json.dumps(SETTINGS))
        place = Path(folder, model["name"])
        place.mkdir()
        Path(place, "model-settings.json").write_text(json.dumps(model))
        # Where relative paths of the server's defaults lead to.
        os.chdir(folder)
        sys.argv[1:] = ["start", folder]
        # Late, because it takes a second or two.
        from mlserver.cli import main as serve

        serve()


if __name__ == "__main__":
    main()
