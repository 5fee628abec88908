"""Prints the Kubernetes manifest for a size; keeps the one in the repository what it should be.

    python -m deploy.manifest --size medium --image registry.example/timbre:0.1.0
    python -m deploy.manifest --write        # deploy/rayservice.yaml anew, after serve_config.yaml

A size (deploy/sizes/) says how many replicas and machines there are; all else is in
deploy/rayservice.yaml and serve_config.yaml.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
MANIFEST = HERE / "rayservice.yaml"
SIZES = HERE / "sizes"
SERVE_CONFIG = HERE.parent / "serve_config.yaml"
SHIPPED_SIZE = "small"
SHIPPED_IMAGE = "timbre:gpu"
SECRETS = "/run/secrets/timbre"
GPU_STAGES = ("Tokenizer", "LLM", "Vocoder")
WIDTH = 110

Document = dict[str, Any]


class _Plain(yaml.SafeDumper):
    """Writes what is repeated as often as it stands, and texts of many lines as they are."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def _as_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _as_text)


def sizes() -> list[str]:
    """Names of the sizes that there are."""
    return sorted(path.stem for path in SIZES.glob("*.yaml"))


def read_size(name: str) -> Document:
    """Raises FileNotFoundError for a name that is none."""
    return yaml.safe_load((SIZES / f"{name}.yaml").read_text(encoding="utf-8"))


def serve_config(size: Mapping[str, Any]) -> Document:
    """serve_config.yaml for a size, as it stands in a RayService."""
    config = yaml.safe_load(SERVE_CONFIG.read_text(encoding="utf-8"))
    (application,) = config["applications"]
    args = application["args"]
    del args["config_file"]  # there is no file: the manifest holds it
    args["access"]["admin_key_file"] = f"{SECRETS}/admin-key"
    args["cache"]["mac_keys_file"] = f"{SECRETS}/mac-keys"
    args["cluster"]["may_grow"] = True
    for deployment in application["deployments"]:
        least, most = size["replicas"].get(deployment["name"], (None, None))
        if least is not None:
            deployment["autoscaling_config"] |= {"min_replicas": least, "max_replicas": most}
        if deployment["name"] in GPU_STAGES:  # by the label, which Ray's autoscaler reads, too
            options = deployment["ray_actor_options"]
            options["label_selector"] = {"ray.io/accelerator-type": options.pop("accelerator_type")}
    return config


def manifest(size_name: str, image: str = SHIPPED_IMAGE) -> list[Document]:
    """Every object, the RayService first."""
    size = read_size(size_name)
    documents = [one for one in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")) if one]
    service, *others = copy.deepcopy(documents)
    spec = service["spec"]
    spec["serveConfigV2"] = _dumped(serve_config(size))
    spec["upgradeStrategy"]["clusterUpgradeOptions"]["maxSurgePercent"] = size["surge_percent"]
    cluster = spec["rayClusterConfig"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    head["resources"] = {"requests": dict(size["head"]), "limits": dict(size["head"])}
    for group in cluster["workerGroupSpecs"]:
        least, most = size["machines"][group["groupName"]]
        group |= {"replicas": least, "minReplicas": least, "maxReplicas": most}
    for container in _containers([service, *others]):
        if container["image"] == SHIPPED_IMAGE:
            container["image"] = image
    return [service, *others]


def written(text: str) -> str:
    """The manifest's text with the serve config of its size in it; comments stay."""
    block = textwrap.indent(_dumped(serve_config(read_size(SHIPPED_SIZE))), "    ")
    pattern = r"(  serveConfigV2: \|\n)(?:    .*\n|\n)+(?=  rayClusterConfig:)"
    new, count = re.subn(pattern, lambda found: found[1] + block, text)
    if count != 1:
        raise ValueError(f"{MANIFEST.name} has no serveConfigV2 before rayClusterConfig")
    return new


def _containers(documents: Sequence[Document]) -> list[Document]:
    found: list[Document] = []

    def look(node: object) -> None:
        if isinstance(node, dict):
            found.extend(node.get("containers", []))
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(documents)
    return found


def _dumped(document: object) -> str:
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, width=WIDTH, allow_unicode=True)


def main(words: Sequence[str] | None = None) -> int:
    """Print a manifest, or write the one that is shipped."""
    parser = argparse.ArgumentParser(prog="python -m deploy.manifest")
    parser.add_argument("--size", choices=sizes(), default=SHIPPED_SIZE)
    parser.add_argument("--image", default=SHIPPED_IMAGE, help="where the cluster pulls it from")
    parser.add_argument("--write", action="store_true", help="rewrite deploy/rayservice.yaml")
    given = parser.parse_args(words)
    if given.write:
        MANIFEST.write_text(written(MANIFEST.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    documents = manifest(given.size, given.image)
    sys.stdout.write("---\n".join(_dumped(one) for one in documents))
    return 0


if __name__ == "__main__":
    sys.exit(main())
