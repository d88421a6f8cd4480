"""A linear classifier behind the Open Inference Protocol, as a runtime of MLServer.

Its weights are those of $TRAINYARD_MODEL_DIR/weights.json, an object with `weights`, a row for each class, and `bias`, a
number for each. Without that variable the largest of ten numbers decides.

MODEL_DELAY is how many seconds each answer takes beside the computation, so that requests can be under way for a while.
"""

import asyncio
import json
import os
from pathlib import Path

import numpy
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

CLASSES = 10


class Classifier(MLModel):
    async def load(self) -> bool:
        folder = os.environ.get("TRAINYARD_MODEL_DIR")
        if folder:
            model = json.loads(Path(folder, "weights.json").read_text())
            self.weights, self.bias = numpy.array(model["weights"]), numpy.array(model["bias"])
        else:
            self.weights, self.bias = numpy.eye(CLASSES), numpy.zeros(CLASSES)
        self.delay = float(os.environ.get("MODEL_DELAY", "0"))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        samples = NumpyCodec.decode_input(payload.inputs[0])
        classes = (samples @ self.weights.T + self.bias).argmax(axis=1)
        if self.delay:
            await asyncio.sleep(self.delay)
        answer = NumpyCodec.encode_output("classes", classes.reshape(-1, 1))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[answer])
