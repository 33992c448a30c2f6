"""The gate, the audit row of one interrupt; the calls it asks about, the decisions on it, and people's own views."""

from approvals_app.models.decision import Decision
from approvals_app.models.gate import DIGESTED, Gate
from approvals_app.models.gate_call import GateCall
from approvals_app.models.saved_view import SavedView

__all__ = ["DIGESTED", "Decision", "Gate", "GateCall", "SavedView"]
