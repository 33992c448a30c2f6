"""The gate, the audit row of one interrupt, and the decisions on it."""

from approvals_app.models.decision import Decision
from approvals_app.models.gate import DIGESTED, Gate
from approvals_app.models.inquiry import Inquiry, Reply

__all__ = ["DIGESTED", "Decision", "Gate", "Inquiry", "Reply"]
