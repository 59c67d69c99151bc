from django.contrib import admin

from .models import Cohort, Membership


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 1


@admin.register(Cohort)
class CohortAdmin(admin.ModelAdmin):
    list_display = ["name", "simulated", "created_at"]
    inlines = [MembershipInline]
