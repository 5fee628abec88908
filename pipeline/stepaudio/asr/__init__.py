"""The recogniser: FunASR's AutoModel on a model directory, the tokenizer's own or another."""
