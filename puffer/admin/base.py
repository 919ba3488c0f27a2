"""Base classes of admin pages: read-only rows, and the confirmation of a deletion."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Aggregate, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import Promise, cached_property
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

from puffer.text import AtLeast

MAX_NAMED = 100  # objects listed on the confirmation page


class DeletionSummary:
    """A confirmation page for deletions that names the objects and counts the related rows deleted with them.

    Django's own page lists every related row, which may be too many for a page.
    """

    model: Any
    opts: Any
    deleted_with: Mapping[str | Promise, Aggregate] = {}  # label -> number, such as _("messages"): Count("messages")
    delete_permissions: Mapping[str | Promise, str] = {}  # label -> a permission that the user needs in addition

    def deletion_line(self, obj: Any) -> str:
        """Return the object's line on the page, which may also say what is kept."""
        return str(obj)

    def get_deleted_objects(
        self, objs: QuerySet[Any] | Sequence[Model], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        keys = objs.order_by().values("pk") if isinstance(objs, QuerySet) else [obj.pk for obj in objs]
        rows = self.model._default_manager.filter(pk__in=keys)
        total = rows.count()
        counts = {str(self.opts.verbose_name_plural): total}
        counts |= {str(label): rows.aggregate(count=count)["count"] for label, count in self.deleted_with.items()}
        named = [self.deletion_line(obj) for obj in objs[:MAX_NAMED]]
        if more := total - len(named):
            named.append(_("and %(count)s more") % {"count": more})
        lacking = {str(label) for label, name in self.delete_permissions.items() if not request.user.has_perm(name)}
        return named, counts, lacking, []


class CappedPaginator(Paginator):
    """A paginator that stops counting at a limit, because counting millions of rows takes longer than showing a page.

    To find rows beyond the limit, users filter, search or change the order.
    """

    object_list: QuerySet[Any]
    limit = 10_000

    @cached_property
    def count(self) -> int:
        counted: int = self.object_list.order_by().values("pk")[: self.limit + 1].count()
        return counted if counted <= self.limit else AtLeast(self.limit)


class ReadOnlyAdmin(DeletionSummary, ModelAdmin):
    """Pages whose rows can be read and deleted, but neither added nor changed."""

    paginator = CappedPaginator

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        """Redirect to the list; Django itself does so only for users with the change permission."""
        super().response_delete(request, obj_display, obj_id)
        return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RecordAdmin(ReadOnlyAdmin):
    """Pages of records that can only be read."""

    actions: Any = None
    show_full_result_count = False
    list_per_page = 50

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Leave out the history link, because records have no history."""
        return super().change_view(request, object_id, form_url, {"show_history": False, **(extra_context or {})})

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
