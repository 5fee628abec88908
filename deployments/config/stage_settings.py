"""The sections of the settings that describe the three stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from deployments.config.section import Positive, Seconds, Strict

CUDA_BATCH = 16  # chunks of streams together on a GPU, where small ones leave it idle

Device = Literal["cpu", "cuda"]
Quantization = Literal["none", "int8", "int4"]


class StageResources(Strict):
    """The device of a stage and the resources of each replica."""

    device: Device = "cpu"
    """Where the stage computes."""
    threads: Positive = 1
    """CPU threads of one replica."""
    gpu_memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory cap of one replica on a GPU, enforced in torch and ONNX Runtime. Start-up refuses a
    cap larger than the replica's fraction of the device (`cluster.gpu_device_gib`)."""

    @model_validator(mode="after")
    def _cuda_needs_a_cap(self) -> StageResources:
        if self.device == "cuda" and self.gpu_memory_gib is None:
            raise ValueError("a stage on cuda needs gpu_memory_gib, its cap on the device")
        return self


class TokenizerSettings(StageResources):
    """The voice encoder: reference clip to voice prompt."""

    batch_s: Annotated[float, Field(ge=0)] = 0.0
    """Maximum audio per batch, seconds. Waiting clips of similar length are batched; a longer clip
    is encoded alone; 0 disables batching."""
    max_clips: Positive = 64
    """Clips in one replica, running and waiting; further ones get 503."""
    tensorrt_cache: str | None = None
    """Run the ONNX models on TensorRT and keep its engines in this directory. Start-up fails
    when ONNX Runtime has no TensorRT."""


class LLMSettings(StageResources):
    """The engine of one LLM replica."""

    slots: Positive = 8
    """Requests decoded together."""
    queue_size: Annotated[int, Field(ge=0)] = 16
    """Requests that may wait for a slot; further ones get 503."""
    queue_timeout_s: Seconds = 30.0
    """Longest wait for a slot, and of the vocoder's streams for admission."""
    max_context_tokens: Annotated[int, Field(gt=64)] = 8_192
    """Most prompt and audio tokens of one request together."""
    prefill_chunk_tokens: Positive = 512
    """Most prompt tokens between two decode steps."""
    chunk_tokens: Annotated[int, Field(gt=0, multiple_of=5)] = 15
    """Audio tokens per chunk sent, whole groups of five."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and KV cache."""
    prefix_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Device memory for keys and values of voices' prompt prefixes, which later requests reuse; 0
    disables reuse."""
    max_prefix_record_bytes: Annotated[int, Field(ge=0)] = 4 * 2**20
    """Larger prefixes are neither kept in the tiers of the cache nor looked for there. Those of the
    embedded model (2 kB a token) are fetched in a tenth of the time that makes them; the released
    model's, of 33 kB a token, over a network in no less. 0 keeps none."""
    quantization: Quantization = "none"
    """Number format of the layers' weights; none keeps the checkpoint's own, so that a 4-bit
    checkpoint stays in 4 bits."""
    voice_affinity: bool = False
    """Send requests of a voice to the replica that is likely to hold its prefix, unless that one
    has more than a tenth above the mean of all replicas to do."""


class LLMVariant(Strict):
    """Another LLM beside `llm`, which requests choose by its name.

    Omitted fields have the value of `llm`.
    """

    model: str | None = None
    """The checkpoint, like the top-level `model`; a replica with a different text tokenizer does
    not start."""
    quantization: Quantization = "none"
    """See `llm.quantization`."""
    slots: Positive | None = None
    """Requests decoded together."""
    gpu_memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory cap of one replica on a GPU."""


class VocoderSettings(StageResources):
    """Flow and HiFT of one vocoder replica, and how its streams are cut."""

    chunk_rows: Annotated[tuple[Positive, ...], Field(min_length=1)] = (15, 24, 48)
    """Rows (40 ms) of the first chunks; the last number repeats."""
    steps: Annotated[int, Field(gt=0, le=64)] = 10
    """Euler steps of the flow."""
    max_streams: Positive = 16
    """Utterances that one replica decodes at a time. On cuda a stream also waits until its caches
    fit beside the others in gpu_memory_gib: at the released sizes 0.65 MB for every frame of the
    prompt (50 a second) and some 200 more. A cap that cannot hold one stream in the voice of a clip
    of limits.max_clip_s stops start-up."""
    queue_size: Annotated[int, Field(ge=0)] = 16
    """Streams that may wait, up to llm.queue_timeout_s; further ones get 503."""
    max_batch: Positive | None = None
    """Chunks of different streams computed together. Above 1 the last bits of a reply depend on
    what runs beside it. Left out: 16 on cuda, 1 on a CPU."""
    half: bool = True
    """On cuda, multiply in float16 in the flow, and replay all from recorded graphs. False: in
    TF32, launched one by one, several times slower; for weights whose numbers leave a float16's
    range, which a reply that ends with "the vocoder's audio is not finite" would tell."""
    prompt: Literal["alone", "exact"] = "alone"
    """How a voice's prompt is run. alone: without the answer behind it, so that its state is made
    once, beside the language model's prefill, and kept; replies are the same bytes whether it was.
    exact: with the answer's first 120 ms seen by its last rows, and on a CPU in plain torch, bytes
    as of version 0.1; costs a pass over the prompt for every answer."""
    prompt_memory_mib: Annotated[int, Field(ge=0)] = 64
    """What a replica keeps of voices between requests, part of gpu_memory_gib. A voice's state
    takes 41 kB a frame (50 a second) of the embedded model: the default holds six of 5 s. At the
    released sizes a frame is 0.65 MB and the default holds none, only the small things; what is not
    held costs a pass over the prompt."""
    voice_affinity: bool = False
    """Send requests of a voice to the replica that is likely to hold its state; as with `llm`."""
    quiet_first_rows: Positive = 10
    """Rows of the first chunk while at most a quarter of max_streams is in use, for requests that
    fix neither seed nor chunk borders."""

    @property
    def together(self) -> int:
        """`max_batch`, or the device's default."""
        if self.max_batch is not None:
            return self.max_batch
        return CUDA_BATCH if self.device == "cuda" else 1
