from __future__ import annotations

from django.urls import path

from approvals_app.consumers import QueueConsumer

page_urlpatterns = [path("ws/queue/", QueueConsumer.as_asgi())]
