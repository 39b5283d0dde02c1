"""From weights to a released, verified, see-through model.

The rooms, from the door inwards:

    cli            options, help texts, exit codes            click
    chain          the whole release, in order
    steps          one function a command: request -> result

    hub            Hub id -> verified local files             huggingface_hub
    weights        folder -> shape and lazily read tensors    safetensors
    pickled        pytorch_model.bin without running code     torch
    text           validation text -> token ids               tokenizers
    capture        PyTorch -> ONNX with activations           torch, transformers
    reference      PyTorch's own answers                      torch, transformers
    graph          passes over the graph; its facts           onnx_ir
    modelfile      ONNX files, tensor by tensor               onnx, onnx_ir
    precision      stored and computed precision              onnx_ir
    runtime        runs sessions                              onnxruntime
    verification   what to run to verify a file
    report         results as text people read
    documents      contract and help -> the copies in Markdown
    hosts          where a release goes

    architecture   config.json -> shape, parameter names      these import nothing
    contract       contract/*.json -> names, tolerances       heavier than numpy
    metadata       what a model file says of itself
    checks         facts x contract -> findings
    manifest       files -> sizes, sha256, manifest.json
    plan           wanted files x what is there -> actions
    tags           a tag -> a version
    envfile        text -> text
    files          writes that happen whole or not at all; hashes
    errors         every failure: a class, a code, a next step

Imports go downwards only; tests/test_architecture.py walks them.
"""
