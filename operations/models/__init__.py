"""Model packages: graphs with their manifests, the registry, the runtime, FHIR features.

A package is a folder with ``model.onnx``, ``card.toml``, ``features.toml`` and
``golden.json``. One that lacks a part, does not fit its schema or fails its golden vectors
is refused with a named reason; the server starts anyway.
"""
