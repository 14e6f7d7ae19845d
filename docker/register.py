"""Register the public keys of SuperNodes with the SuperLink; those that it knows stay as they are.

register.py HOST:PORT CA_CERTIFICATE FOLDER_OR_PUBLIC_KEY…
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

KNOWN = "Public key already in use"


def main(superlink: str, certificate: str, *given: str) -> None:
    """Register the keys; the first that is refused ends it with what Flower says."""
    paths = [Path(name) for name in given]
    keys = [key for path in paths for key in (path.glob("*.pub") if path.is_dir() else [path])]
    with tempfile.TemporaryDirectory() as home:
        pairs = {"address": superlink, "root-certificates": str(Path(certificate).absolute())}
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in pairs.items()]
        Path(home, "config.toml").write_text("".join(["[superlink.here]\n", *lines]))
        for key in sorted(keys):
            done = subprocess.run(
                ["flwr", "supernode", "register", str(key), "here"],
                env=os.environ | {"FLWR_HOME": home},
                capture_output=True,
                text=True,
            )
            said = " ".join((done.stdout + done.stderr).split())
            if done.returncode != 0 and KNOWN not in said:
                sys.exit(f"{key}: {said}")
            print(f"{key}: {'registered' if done.returncode == 0 else 'is known'}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
