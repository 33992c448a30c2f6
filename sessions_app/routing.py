from __future__ import annotations

from django.urls import path

from sessions_app.consumers import SessionPageConsumer
from sessions_app.streams import EventsConsumer

#: Sockets of our own pages: a browser says where it comes from, and only our own pages may open them.
page_urlpatterns = [path("ws/sessions/<str:pk>/", SessionPageConsumer.as_asgi())]

#: Sockets of the REST contract: scripts send no Origin, so the consumer itself judges who asks.
api_urlpatterns = [path("ws/sessions/<str:pk>/events", EventsConsumer.as_asgi())]
