"""A conformance kit: does a Per-FedAvg or MAML step, anyone's, compute what it should?

It needs torch and NumPy alone, and Rich to print what it found: see docs/conformance.md.
"""

from nufed.conformance.checking import check
from nufed.conformance.findings import Finding, Report
from nufed.conformance.implementation import from_gradient

__all__ = ["Finding", "Report", "check", "from_gradient"]
