"""Every address: the pages, the API, the probes."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path
from django.views.generic import RedirectView

from approvals_app.preferences import preferences
from clm_site import health, metrics, views
from clm_site.api import api, trigger_at_root

admin.site.site_header = admin.site.site_title = "CLM administration"
admin.site.index_title = "What is on record"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="queue"), name="home"),
    path("approvals/", include("approvals_app.urls")),
    path("sessions/", include("sessions_app.urls")),
    path("insight/", include("approvals_app.insight_urls")),
    path("sign-in/", views.SignInView.as_view(), name="sign_in"),
    path("sign-in/<str:uid>/<str:token>/", views.sign_in_by_link, name="sign_in_by_link"),
    path("preferences/", preferences, name="preferences"),
    path("sign-out/", LogoutView.as_view(), name="sign_out"),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("triggers/<str:name>", trigger_at_root),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
]

handler404 = "clm_site.views.not_found"
handler500 = "clm_site.views.server_error"
handler403 = "clm_site.views.forbidden"
handler400 = "clm_site.views.bad_request"
