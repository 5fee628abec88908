"""What a passage's prompt takes to be written: its phonemes, and the tokens of its template.

    python -m load_tests.simulate.prompts [--json FILE]

Milliseconds of a core, of the embedded model, for the texts of the loads that are fitted to.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile, publish
from load_tests.simulate.expected import prompt_of
from load_tests.simulate.profiles import PROMPT
from load_tests.simulate.validate import mix_plan
from pipeline.contracts import SpeechRequest
from pipeline.prompting import CheckpointPrompts
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.voice_list import load_voices

ROUNDS = 5


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.simulate.prompts")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    prompts = CheckpointPrompts(CheckpointLayout.at(resolve_model("tiny")).editx)
    took_ms: list[float] = []
    for _ in range(ROUNDS):
        for call in mix_plan("fit_alone", 1.0).calls:
            words = load_voices()[call.voice].transcript
            request = SpeechRequest(call.text, words)
            began_s = time.process_time()
            next(prompts.scripts(request, prompt_of(call.voice)))
            took_ms.append(1e3 * (time.process_time() - began_s))
    took_ms = took_ms[len(took_ms) // ROUNDS :]  # the first round begins things
    rows = [Row(PROMPT, percentile(took_ms, 0.5), "ms")]
    return publish(rows, provenance("cpu"), options.json)


if __name__ == "__main__":
    sys.exit(main())
