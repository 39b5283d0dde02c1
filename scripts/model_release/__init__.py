"""From weights to a released, verified, see-through model.

The rooms, from the door inwards:

    entry          a command's name -> the command, if this Python can run it
    cli            options, help texts, exit codes            click
    chain          the whole release, in order
    runplan        a workflow run's inputs -> its jobs
    building       weights -> a finished dist folder
    apptree        dist -> the web app's working tree
    browsing       a release -> a browser's answers, judged
    fetching       a release's files -> the app's static folder
    mirroring      a release's files -> a mirror for browsers
    pointing       a public release -> the app's repository
    publishing     dist -> a published release
    steps          one function a command: request -> result
    probing        would a browser get this URL?

    hub            Hub id -> verified local files             huggingface_hub
    hub_client     the Hub's client, with our patience        huggingface_hub
    weights        folder -> shape and lazily read tensors    safetensors
    pickled        pytorch_model.bin without running code     torch
    text           validation text -> token ids               tokenizers
    tracing        config -> the finished graph
    capture        PyTorch -> ONNX with activations           torch, transformers
    reference      PyTorch's own answers                      torch, transformers
    unrolling      two traced layers -> all of them           onnx_ir
    graph          passes over the graph; its facts           onnx_ir
    modelfile      ONNX files, tensor by tensor               onnx, onnx_ir
    precision      stored and computed precision              onnx_ir
    runtime        runs sessions                              onnxruntime
    recording      a browser's verdicts -> the manifest
    trials         what a browser returned, and whether it may
    verification   what to run to verify a file
    report         results as text people read
    page           a release -> report.html; its live page    jinja2
    documents      contract, help, map, example -> their copies
    notes          manifest -> release notes
    hosts          where a release goes                       github, requests
    downloading    patient, resumed, verified downloads
    sources        where a published release is read from
    web            one GET at a time                          requests
    serving        folders -> a page's host on 127.0.0.1
    npm            locked npm packages, installed
    chromium       a headless browser                         playwright

    registry       contract/models.json: what is pinned
    measures       arrays -> errors, KL, agreement
    storage        how wide weights are stored, and in which blocks
    architecture   config.json -> shape, parameter names      these import nothing
    contract       contract/*.json -> names, tolerances       heavier than numpy
    metadata       what a model file says of itself
    checks         what a model returned x contract -> findings
    structure      what its file is x contract -> findings
    findings       broken clauses of the contract
    manifest       files -> sizes, sha256, manifest.json
    figures        times and memory in a browser, for the notes
    plan           wanted files x what is there -> actions
    appplan        what the app's repository lacks; refusals read
    appfiles       manifest -> the app's files and URL
    shadows        what would override the app's env file
    datafiles      a model file and what is too large for it
    tags           a tag -> a version
    envfile        text -> text
    files          writes that happen whole or not at all; hashes
    github_actions  step outputs, summaries, annotations
    patience       what is tried again, and when
    errors         every failure: a class, a code, a next step
    version        the tool's own version

Imports go downwards only; tests/test_architecture.py walks them.
"""
