from __future__ import annotations

from django.urls import path

from approvals_app import insight_views

urlpatterns = [
    path("", insight_views.insights, name="insight"),
    path("gates/", insight_views.insight_gates, name="insight_gates"),
    path("gates.csv", insight_views.insight_csv, name="insight_csv"),
]
