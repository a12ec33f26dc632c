"""From a torch module to what hardware runs: ONNX with its preprocessing inside, quantised, and proven to agree."""
