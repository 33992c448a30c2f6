"""The gate, the audit row of one interrupt, the decisions on it, and the checks of all of it."""

from approvals_app.models.audit_check import AuditCheck
from approvals_app.models.decision import Decision
from approvals_app.models.gate import DIGESTED, Gate

__all__ = ["DIGESTED", "AuditCheck", "Decision", "Gate"]
