"""Views that declare DRF's authentication, permission and throttle classes in several ways."""

from django.urls import include, path
from rest_framework import serializers, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from chatbots.models import Chatbot
from puffer.api import AsyncAPIView, HasScope
from puffer.models import ApiKey, Scope
from puffer.urls import urlpatterns as puffer_urls


class Answering(AsyncAPIView):
    async def get(self, request):
        return Response({"caller": request.auth and request.auth.name, "user": str(request.user)})


class Never(BasePermission):
    message = "Nobody may."

    def has_permission(self, request, view):
        return False


class KeyIsStored(BasePermission):
    """A permission that queries the database."""

    def has_permission(self, request, view):
        return ApiKey.objects.filter(name=request.auth.name).exists()


class Later(BaseThrottle):
    def allow_request(self, request, view):
        return False

    def wait(self):
        return 6.2


class TeamHeader(BaseAuthentication):
    def authenticate(self, request):
        return ("team", None) if request.META.get("HTTP_X_TEAM") else None


class Refused(Answering):
    permission_classes = [HasScope, Never]


class Queried(Answering):
    permission_classes = [HasScope & KeyIsStored]


class Throttled(Answering):
    throttle_classes = [Later]


class LogsOnly(Answering):
    required_scope = Scope.LOGS


class OtherAuthentication(Answering):
    authentication_classes = [TeamHeader]
    permission_classes = []


class Plain(APIView):
    required_scope = Scope.LOGS

    def get(self, request):
        return Response({"caller": request.auth.name, "bots": Chatbot.objects.count()})

    post = get


class ChatbotSerializer(serializers.ModelSerializer):
    class Meta:
        model = Chatbot
        fields = ["id", "name", "temperature"]


class ChatbotViewSet(viewsets.ModelViewSet):
    queryset = Chatbot.objects.all()
    serializer_class = ChatbotSerializer


router = DefaultRouter(trailing_slash=False)  # no URL of the API ends with a slash
router.include_format_suffixes = False
router.register("bots", ChatbotViewSet)

views = {
    "refused": Refused,
    "queried": Queried,
    "throttled": Throttled,
    "logs-only": LogsOnly,
    "other": OtherAuthentication,
    "plain": Plain,
}
policy_urls = [*(path(name, view.as_view()) for name, view in views.items()), path("", include(router.urls))]
urlpatterns = [path("wp-json/policies/", include(policy_urls)), path("policies/", include(policy_urls)), *puffer_urls]
