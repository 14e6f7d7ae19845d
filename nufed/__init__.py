"""NuFed: meta federated learning for any number of fine-tuning steps.

Its parts are packages of their own: `nufed.client_app`, `nufed.strategies`, … Where they are
installed they lie in this folder; in a checkout, or a Flower app made of one, beside it.
"""

from pathlib import Path

_here = Path(__file__).parent
if not (_here / "client_app").exists():
    __path__.append(str(_here.parent))
