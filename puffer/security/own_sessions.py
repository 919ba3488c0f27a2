"""The page of a user's sign-ins: where their sessions are, and a button to end each of them."""

from datetime import datetime
from typing import Any

from axes.models import AccessLog
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from puffer.net.client_ip import anonymized, client_ip
from puffer.security import confirmation
from puffer.security.admin_sessions import Session, SessionStore, digest

SIGN_IN = "sign_in"  # in the session: when, from which address and with which browser the user signed in
MAX_AGENT = 300  # characters
MAX_COMPARED = 200  # earlier sign-ins

# The first that occurs in the User-Agent header: most browsers also name older ones.
BROWSERS = {"Edg": "Edge", "OPR/": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "CrOS": "ChromeOS",
    "Macintosh": "macOS",
    "Linux": "Linux",
}


def device(user_agent: str) -> str:
    """Return the browser and the system, such as "Firefox, Linux". Versions are left out: updates change them."""
    named = [next((name for mark, name in known.items() if mark in user_agent), None) for known in (BROWSERS, SYSTEMS)]
    return ", ".join(filter(None, named)) or user_agent.partition(" ")[0][:40]


def record_sign_in(sender: Any, request: HttpRequest, user: AbstractBaseUser, **_: Any) -> None:
    """Note in the session where it comes from, and in the audit log if it is from a new device or network.

    Receiver of `user_logged_in`, after that of django-axes, which has recorded this sign-in already.
    """
    address, agent = client_ip(request), request.META.get("HTTP_USER_AGENT", "")[:MAX_AGENT]
    request.session[SIGN_IN] = {"at": timezone.now().isoformat(), "address": address, "agent": agent}
    confirmation.remember_confirmation(request)
    SessionStore.clear_expired()  # here, because only sign-ins make sessions
    sign_ins = AccessLog.objects.filter(username=user.get_username()).order_by("-pk")
    earlier = sign_ins.values_list("ip_address", "user_agent")[1:MAX_COMPARED]
    places = {(anonymized(ip or ""), device(browser)) for ip, browser in earlier}
    place = (anonymized(address), device(agent))
    if places and place not in places:
        message = f"Signed in from a new device or network: {place[1]}, {place[0]}."
        LogEntry.objects.log_actions(user.pk, [user], CHANGE, message)


def own_sessions(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the user's valid sessions, the current one first, then by the time of the last request."""
    current = digest(request.session.session_key or "")
    user: Any = request.user
    found = []
    for session in Session.objects.filter(user=user, expire_date__gt=timezone.now()).order_by("-last_seen_at"):
        data = session.get_decoded()
        if data.get(HASH_SESSION_KEY) != user.get_session_auth_hash():
            continue  # from before a change of the password
        sign_in = data.get(SIGN_IN) or {}
        found.append(
            {
                "pk": session.pk,
                "is_current": session.pk == current,
                "device": device(sign_in.get("agent", "")),
                "address": sign_in.get("address", ""),
                "signed_in_at": datetime.fromisoformat(sign_in["at"]) if "at" in sign_in else None,
                "last_seen_at": session.last_seen_at,
            }
        )
    return sorted(found, key=lambda session: not session["is_current"])


def own_sessions_page(request: HttpRequest, model_admin: admin.ModelAdmin) -> HttpResponse:
    """List the user's sign-ins. A form ends one of them, or all but the current one."""
    user: Any = request.user
    sessions = own_sessions(request)
    if request.method == "POST":
        chosen = request.POST.get("session", "")
        ended = [session for session in sessions if not session["is_current"] and chosen in (session["pk"], "others")]
        Session.objects.filter(user=user, pk__in=[session["pk"] for session in ended]).delete()
        for session in ended:
            model_admin.log_change(request, user, f"Signed out: {session['device']}, {session['address']}.")
        messages.success(request, _("Signed out.") if ended else _("That sign-in has ended already."))
        return HttpResponseRedirect(request.path)
    context = {**model_admin.admin_site.each_context(request), "title": _("Your sign-ins"), "sessions": sessions}
    return TemplateResponse(request, "admin/puffer/own_sessions.html", context)
