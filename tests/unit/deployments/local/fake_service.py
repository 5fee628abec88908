"""A small program in the place of `serve run`, and a config for it."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.cache_helpers import free_port
from tests.conftest import ROOT

# Stands where `serve run --address local CONFIG` does: answers /readyz, or fails as it is told to.
FAKE_SERVE = """
    import http.server, json, os, signal, subprocess, sys, time
    import yaml

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"ready": true, "stages": {"llm": {"state": "ok"}}}')

        def log_message(self, *args):
            pass

    options = yaml.safe_load(open(sys.argv[-1]))["http_options"]
    said = {"argv": sys.argv[1:], "env": dict(os.environ), "config": sys.argv[-1]}
    open("said.json", "w").write(json.dumps(said))
    if "FAKE_LOG" in os.environ:
        print(os.environ["FAKE_LOG"], flush=True)
    worker = subprocess.Popen([os.environ["FAKE_RAYLET"], "600"])
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    if "FAKE_LOG" in os.environ:
        time.sleep(60)
    http.server.HTTPServer((options["host"], options["port"]), Handler).serve_forever()
"""


def config(directory: Path, vocoder_threads: int = 1, **http_options: object) -> Path:
    document = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    document["applications"][0]["args"]["vocoder"]["threads"] = vocoder_threads
    document["http_options"] |= {"port": free_port(), **http_options}
    path = directory / "serve config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path
