"""Guards of what is sent as files, and of checkpoints."""

from __future__ import annotations

from tests.mutations.guard import Guard

_DECODE = "pipeline/audio/decode.py"
_MP4 = "pipeline/audio/mp4_guard.py"
_T_DECODE = "pipeline/audio/test_decode.py"
_T_HOSTILE = "pipeline/audio/test_hostile.py"
_T_BOMBS = "pipeline/audio/test_bombs.py"
_DOWNLOAD = "pipeline/stepaudio/checkpoint/download.py"
_T_DOWNLOAD = "pipeline/stepaudio/checkpoint/test_download.py"

GUARDS = (
    Guard(
        "a clip has a size",
        _DECODE,
        "if len(data) > limits.max_bytes:",
        "if False:",
        (f"{_T_DECODE}::test_bytes_that_are_no_audio",),
    ),
    Guard(
        "a clip has a length, whatever its header says",
        _DECODE,
        "return self.duration_s > self._limits.max_duration_s + self.padding_s",
        "return False",
        (f"{_T_DECODE}::test_every_bound_is_allowed_and_one_beyond_is_not",),
    ),
    Guard(
        "a clip has a sample rate",
        _DECODE,
        "if not limits.min_sample_rate_hz <= rate_hz <= limits.max_sample_rate_hz:",
        "if False:",
        (f"{_T_DECODE}::test_every_bound_is_allowed_and_one_beyond_is_not",),
    ),
    Guard(
        "a packet holds so many samples",
        _DECODE,
        'context.options = {"max_samples": str(_MAX_FRAME_VALUES)}',
        "context.options = {}",
        (f"{_T_HOSTILE}::test_one_packet_cannot_hold_more_than_the_bound",),
    ),
    Guard(
        "libav decodes audio codecs of a list",
        _DECODE,
        "    if context is None or context.codec.name not in _CODECS:\n",
        "    if context is None:\n",
        (f"{_T_DECODE}::test_an_unaccepted_codec_is_named",),
    ),
    Guard(
        "a file opens no other",
        _DECODE,
        '        "protocol_whitelist": "none",\n'
        '        "max_samples": str(_MAX_FRAME_VALUES),\n'
        "    }\n"
        "    if upload.container is None:\n"
        '        options["format_whitelist"] = upload.candidates\n',
        '        "max_samples": str(_MAX_FRAME_VALUES),\n    }\n',
        (f"{_T_DECODE}::test_playlists_open_nothing",),
    ),
    Guard(
        "samples off the scale are refused",
        "pipeline/audio/channels.py",
        "if not peak <= _MAX_PEAK:  # also for NaN",
        "if False:",
        (f"{_T_DECODE}::test_samples_off_the_scale_are_refused",),
    ),
    Guard(
        "an mp4 with a compressed header is refused",
        _MP4,
        'if b"cmvd" in box:',
        "if False:",
        (f"{_T_BOMBS}::test_a_bomb_is_refused_before_libav_reads_it",),
    ),
    Guard(
        "an mp4's index fits its size",
        _MP4,
        "    if n_entries > allowed:\n",
        "    if False:\n",
        (f"{_T_BOMBS}::test_a_bomb_is_refused_before_libav_reads_it",),
    ),
    Guard(
        "an mp4 has so many boxes",
        _MP4,
        "        if found > allowed:\n",
        "        if False:\n",
        (f"{_T_BOMBS}::test_a_crowd_of_boxes_is_refused",),
    ),
    Guard(
        "a caf's table fits its size",
        "pipeline/audio/caf_guard.py",
        "if n_packets > _MAX_PACKETS:",
        "if False:",
        (f"{_T_BOMBS}::test_a_caf_that_claims_packets_is_refused",),
    ),
    Guard(
        "tensors of a .pt run no code",
        "pipeline/stepaudio/weights.py",
        "weights_only=True",
        "weights_only=False",
        (
            "test_supply_chain.py::test_a_file_of_tensors_runs_nothing",
            "test_supply_chain.py::test_nothing_unpickles_or_runs_what_it_reads",
        ),
    ),
    Guard(
        "the linguistic tokenizer's .pt runs no code",
        "pipeline/stepaudio/tokenizer/linguistic.py",
        'torch.load(path, map_location="cpu", weights_only=True',
        'torch.load(path, map_location="cpu", weights_only=False',
        ("test_supply_chain.py::test_nothing_unpickles_or_runs_what_it_reads",),
    ),
    Guard(
        "verifying a checkpoint runs no code",
        "pipeline/stepaudio/checkpoint/checks.py",
        'torch.load(path, map_location="meta", weights_only=True',
        'torch.load(path, map_location="meta", weights_only=False',
        ("test_supply_chain.py::test_nothing_unpickles_or_runs_what_it_reads",),
    ),
    Guard(
        "a codebook is no pickle",
        "pipeline/stepaudio/tokenizer/linguistic.py",
        "codebook = np.load(path, allow_pickle=False)",
        "codebook = np.load(path, allow_pickle=True)",
        ("test_supply_chain.py::test_nothing_unpickles_or_runs_what_it_reads",),
    ),
    Guard(
        "tags of a checkpoint's YAML name classes and make none",
        "pipeline/stepaudio/tagged_yaml.py",
        "class _TaggedLoader(yaml.SafeLoader):",
        "class _TaggedLoader(yaml.UnsafeLoader):",
        ("test_supply_chain.py::test_tags_of_a_checkpoints_yaml_make_nothing",),
    ),
    Guard(
        "a download is what its source publishes",
        _DOWNLOAD,
        "if remote.sha256 and digest != remote.sha256:",
        "if False:",
        (f"{_T_DOWNLOAD}::test_damaged_content_is_refused_and_dropped",),
    ),
    Guard(
        "an official file is the published one, whatever its source says",
        _DOWNLOAD,
        "elif known and not digest.startswith(known.sha256):",
        "elif False:",
        (f"{_T_DOWNLOAD}::test_content_that_is_not_the_published_file_is_refused",),
    ),
    Guard(
        "a download stays in its place",
        _DOWNLOAD,
        "        check_paths((file.path for file in files), repository)\n",
        "",
        (
            f"{_T_DOWNLOAD}::test_a_path_that_leaves_its_place_is_refused_before_anything_is_fetched",
        ),
    ),
    Guard(
        "a checkpoint is verified by digest",
        "pipeline/stepaudio/checkpoint/verify.py",
        "        if not digest.startswith(known.sha256):\n",
        "        if False:\n",
        (
            "pipeline/stepaudio/checkpoint/test_verify.py::test_damaged_byte_is_found_by_digest_only",
        ),
    ),
)
