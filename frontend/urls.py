"""The addresses of the pages. Every one has a name: the route test asks each of them with each person."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from frontend.dash.gateway import gateway
from frontend.pages import assays, cohorts, encoders, imports, jobs, labels, members, patients, runs, survival, uploads, versions
from frontend.pages.case import maps, similar, values, views

urlpatterns = [
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("", cohorts.cohorts, name="cohorts"),
    path("cohorts/new/", cohorts.cohort_new, name="cohort_new"),
    path("cohorts/<int:cohort_id>/", cohorts.cohort, name="cohort"),
    path("cohorts/<int:cohort_id>/slides/", cohorts.cohort_slides, name="cohort_slides"),
    path("cohorts/<int:cohort_id>/multiplex/", assays.cohort_multiplex, name="cohort_multiplex"),
    path("cohorts/<int:cohort_id>/labels/", labels.cohort_labels, name="cohort_labels"),
    path("cohorts/<int:cohort_id>/imports/", imports.cohort_imports, name="cohort_imports"),
    path("cohorts/<int:cohort_id>/members/", members.cohort_members, name="cohort_members"),
    path("cohorts/<int:cohort_id>/members/<int:membership_id>/role/", members.member_role, name="cohort_member_role"),
    path("cohorts/<int:cohort_id>/members/<int:membership_id>/remove/", members.member_remove, name="cohort_member_remove"),
    path("cohorts/<int:cohort_id>/access-log/", cohorts.cohort_access_log, name="cohort_access_log"),
    path("cohorts/<int:cohort_id>/upload/slide/", uploads.upload_slide, name="upload_slide"),
    path("cohorts/<int:cohort_id>/upload/multiplex/", assays.upload_multiplex, name="upload_multiplex"),
    path("cohorts/<int:cohort_id>/upload/labels/", labels.upload_labels, name="upload_labels"),
    path("cohorts/<int:cohort_id>/upload/table/", uploads.upload_table, name="upload_table"),
    path("cohorts/<int:cohort_id>/kaplan-meier.csv", survival.km_csv, name="km_csv"),
    path("cohorts/<int:cohort_id>/runs/", runs.cohort_runs, name="cohort_runs"),
    path("cohorts/<int:cohort_id>/runs/new/", runs.cohort_run_new, name="cohort_run_new"),
    path("cohorts/<int:cohort_id>/runs/plan.csv", runs.cohort_run_plan, name="cohort_run_plan"),
    path("runs/<int:run_id>/", runs.cohort_run, name="cohort_run"),
    path("runs/<int:run_id>/items.csv", runs.cohort_run_items, name="cohort_run_items"),
    path("runs/<int:run_id>/<str:action>/", runs.cohort_run_action, name="cohort_run_action"),
    path("imports/<int:import_id>/", imports.import_, name="import_"),
    path("assays/<int:image_id>/", assays.multiplex_image, name="multiplex_image"),
    path("attention/<int:slide_id>/", imports.slide_attention, name="slide_attention"),
    path("cases/", patients.cases, name="cases"),
    path("cases/<int:patient_id>/", views.case, name="case"),
    path("cases/<int:patient_id>/values/", values.case_values, name="case_values"),
    path("cases/<int:patient_id>/similar/", similar.case_similar, name="case_similar"),
    path("cases/<int:patient_id>/decisions/", views.case_decision, name="case_decision"),
    path("cases/<int:patient_id>/run/", views.case_run, name="case_run"),
    path("cases/<int:patient_id>/maps/<int:prediction_id>/range.png", maps.map_range, name="map_range"),
    path("cases/<int:patient_id>/maps/<int:prediction_id>/<int:channel>.png", maps.map_png, name="map_png"),
    path("cases/<int:patient_id>/maps/<int:prediction_id>/<int:channel>.json", maps.map_values, name="map_values"),
    path("slides/<int:slide_id>/regions/", include("frontend.pages.case.region_urls")),
    path("jobs/", jobs.jobs, name="jobs"),
    path("jobs/<int:job_id>/", jobs.job, name="job"),
    path("jobs/<int:job_id>/cancel/", jobs.job_cancel, name="job_cancel"),
    path("jobs/<int:job_id>/retry/", jobs.job_retry, name="job_retry"),
    path("models/", versions.versions, name="versions"),
    path("models/<int:version_id>/", versions.version, name="version"),
    path("encoders/", encoders.encoders, name="encoders"),
    path("encoders/<str:name>/use/", encoders.encoder_use, name="encoder_use"),
    path("dash/km/<int:cohort_id>/", gateway, {"view": "km"}, name="dash"),
    path("dash/km/<int:cohort_id>/<path:path>", gateway, {"view": "km"}, name="dash_part"),
]
