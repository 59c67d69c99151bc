"""Jobs for staff: to read, with tracebacks; what is done with a job goes through services."""

from django.contrib import admin
from django.http import HttpRequest

from .models import Job, JobOutput, JobTransition


class ReadOnly(admin.ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Job)
class JobAdmin(ReadOnly):
    list_display = ("id", "kind", "state", "attempt", "worker", "created_at", "finished_at", "error_code")
    list_filter = ("state", "queue", "kind")


@admin.register(JobTransition)
class JobTransitionAdmin(ReadOnly):
    list_display = ("job_id", "from_state", "to_state", "attempt", "at")


@admin.register(JobOutput)
class JobOutputAdmin(ReadOnly):
    list_display = ("job_id", "kind", "key", "size", "created_at")
