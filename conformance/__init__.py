"""A conformance kit: whether anyone's Per-FedAvg or MAML step computes what it should.

It needs torch and NumPy alone, and Rich to print what it found: see docs/conformance.md.
"""

from nufed.conformance.checking import check
from nufed.conformance.findings import Finding, Report
from nufed.conformance.implementation import from_gradient

__all__ = ["Finding", "Report", "check", "from_gradient"]
