"""The classifier as a runtime of MLServer: KServe v2 in, a JPEG as BYTES or an array."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from shared import classify, open_session, pixels_of


class Classifier(MLModel):
    async def load(self) -> bool:
        self.session = open_session()
        self.channels = self.session.get_inputs()[0].shape[3]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = payload.inputs[0]
        if given.datatype == "BYTES":
            images = pixels_of(Base64Codec.decode_input(given)[0], self.channels)
        else:
            images = NumpyCodec.decode_input(given)
        answer = NumpyCodec.encode_output("probabilities", classify(self.session, images))
        return InferenceResponse(model_name=self.name, outputs=[answer])
