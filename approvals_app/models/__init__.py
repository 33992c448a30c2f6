"""The gate, the audit row of one interrupt, and the decisions on it; what the sweep found."""

from approvals_app.models.comparison import Comparison
from approvals_app.models.decision import Decision
from approvals_app.models.gate import DIGESTED, Gate
from approvals_app.models.repair_card import RepairCard

__all__ = ["DIGESTED", "Comparison", "Decision", "Gate", "RepairCard"]
