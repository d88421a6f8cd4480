"""A classifier behind the Open Inference Protocol, as a runtime of MLServer.

It is the network of $TRAINYARD_MODEL_DIR/weights.json, in the form that network.py beside this file describes. Without
that variable the largest of ten numbers decides.

The model's version, which every answer and the model's metadata name, is the digest of that file: the SHA-256 of what was
loaded, in hexadecimal. MODEL_VERSION is another name for it.

MODEL_DELAY is how many seconds each answer takes beside the computation, so that requests can be under way for a while.
"""

import asyncio
import os

import numpy
from mlserver import MLModel, ModelSettings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from network import Network

CLASSES = 10


class Classifier(MLModel):
    def __init__(self, settings: ModelSettings):
        super().__init__(settings)
        # Not in load(): a model is registered before that, with the version that it has by then.
        folder = os.environ.get("TRAINYARD_MODEL_DIR")
        largest = (numpy.eye(CLASSES), numpy.zeros(CLASSES))
        self.network = Network.read(folder) if folder else Network([largest], "1")
        settings.parameters.version = os.environ.get("MODEL_VERSION", self.network.digest)
        settings.versions = [self.version]
        self.delay = float(os.environ.get("MODEL_DELAY", "0"))

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        samples = NumpyCodec.decode_input(payload.inputs[0])
        classes = self.network.classes(samples)
        if self.delay:
            await asyncio.sleep(self.delay)
        answer = NumpyCodec.encode_output("classes", classes.reshape(-1, 1))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[answer])
