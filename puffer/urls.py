from csp.constants import SELF
from csp.decorators import csp_replace
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from chatbots.widget import chat_page, loader, widget_file
from providers.use_cases import stored_image
from puffer.api.openapi import openapi_document
from puffer.api.routes import NamespaceView
from puffer.api.views import NoRouteView

api = [
    path("", include("providers.api.urls")),
    path("", include("vectorstores.api.urls")),
    path("", include("chatbots.api.urls")),
    path("", include("logs.api.urls")),
]

without_eval = csp_replace({"script-src": [SELF]})

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", include("puffer.admin.audit")),
    path("admin/", admin.site.urls),
    path("api/schema/", openapi_document, name="schema"),
    path("api/docs/", without_eval(SpectacularSwaggerSplitView.as_view(url_name="schema")), name="docs"),
    path("media/images/<str:name>", stored_image),
    path("embed.js", loader),
    path("widget/<str:version>/<str:name>", widget_file, name="widget_file"),
    path("chat/<int:bot_id>/", chat_page),
    path("wp-json/aipkit/v1", NamespaceView.as_view()),
    path("wp-json/aipkit/v1/", include(api)),
    re_path(r"^wp-json(?:/.*)?$", NoRouteView.as_view()),
]
