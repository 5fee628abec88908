"""Guards of marks: that speech leaves marked, and who may have it without."""

from __future__ import annotations

from tests.mutations.guard import Guard

_OPTING_OUT = "deployments/http/provenance/opting_out.py"
_T_STREAMS = "pipeline/stepaudio/vocoder/test_marked_streams.py"
_T_DOORS = "deployments/http/provenance/test_doors.py"

GUARDS = (
    Guard(
        "every chunk of speech is marked",
        "pipeline/stepaudio/vocoder/stream.py",
        "marked = self._mark.process(samples)",
        "marked = samples",
        (f"{_T_STREAMS}::test_each_chunk_leaves_marked",),
    ),
    Guard(
        "chunks that are made together are marked",
        "pipeline/stepaudio/vocoder/stream.py",
        "return [utterance._marked(samples) for utterance, samples in sounds]",
        "return [samples for _, samples in sounds]",
        (f"{_T_STREAMS}::test_chunks_computed_together_are_marked_too",),
    ),
    Guard(
        "speech without a mark needs a scope of its own",
        _OPTING_OUT,
        "if not caller.may(Scope.UNMARKED):",
        "if False:",
        (
            f"{_T_DOORS}::test_a_key_without_the_scope_is_refused",
            f"{_T_DOORS}::test_a_session_without_the_scope_is_not_begun",
        ),
    ),
    Guard(
        "whoever has speech without a mark is logged",
        _OPTING_OUT,
        '    logger.warning(\n        "request %s of %s, key %s: audio without a mark",',
        '    logger.debug(\n        "request %s of %s, key %s: audio without a mark",',
        (f"{_T_DOORS}::test_a_key_with_the_scope_is_named_in_the_log",),
    ),
    Guard(
        "speech with a mark and without are kept apart",
        "cache_store/keys.py",
        "made = (self.model_fingerprint, str(int(self.is_marked)))",
        'made = (self.model_fingerprint, "0")',
        ("cache_store/test_keys.py::test_every_ingredient_changes_the_key_of_speech",),
    ),
    Guard(
        "the mark's networks are the published ones",
        "pipeline/marks/network.py",
        "if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:",
        "if False:",
        ("pipeline/marks/test_marks.py::test_other_weights_are_refused",),
    ),
)
