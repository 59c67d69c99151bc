"""The addresses of /api/v1/."""

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView

from . import cohort_runs, cohorts, imports, jobs, maps, model_versions, patients, retrieval, risk, slides, survival, tokens, views

app_name = "api"
urlpatterns = [
    path("token/", tokens.TokenView.as_view(), name="token"),
    path("cohorts/", cohorts.CohortList.as_view(), name="cohorts"),
    path("cohorts/<int:cohort_id>/", cohorts.CohortDetail.as_view(), name="cohort"),
    path("patients/", patients.PatientList.as_view(), name="patients"),
    path("patients/<int:patient_id>/", patients.PatientDetail.as_view(), name="patient"),
    path("patients/<int:patient_id>/risk/", risk.PatientRisk.as_view(), name="patient_risk"),
    path("slides/", slides.SlideList.as_view(), name="slides"),
    path("slides/<int:slide_id>/", slides.SlideDetail.as_view(), name="slide"),
    path("slides/<int:slide_id>/tiles.dzi", slides.SlideTiles.as_view(), name="slide_tiles"),
    path("slides/<int:slide_id>/tiles_files/<int:level>/<int:col>_<int:row>.jpeg", slides.SlideTile.as_view(), name="slide_tile"),
    path("slides/<int:slide_id>/pipeline/", slides.SlidePipeline.as_view(), name="slide_pipeline"),
    path("slides/<int:slide_id>/maps/", maps.MapList.as_view(), name="maps"),
    path("slides/<int:slide_id>/maps/<int:map_id>/", maps.MapDetail.as_view(), name="map"),
    path("slides/<int:slide_id>/maps/<int:map_id>/values.csv", maps.MapValues.as_view(), name="map_values"),
    path("imports/", imports.ImportList.as_view(), name="imports"),
    path("imports/<int:import_id>/", imports.ImportDetail.as_view(), name="import"),
    path("imports/<int:import_id>/confirm/", imports.ImportConfirm.as_view(), name="import_confirm"),
    path("imports/<int:import_id>/discard/", imports.ImportDiscard.as_view(), name="import_discard"),
    path("jobs/", jobs.JobList.as_view(), name="jobs"),
    path("jobs/<int:job_id>/", jobs.JobDetail.as_view(), name="job"),
    path("jobs/<int:job_id>/cancel/", jobs.JobCancel.as_view(), name="job_cancel"),
    path("jobs/<int:job_id>/retry/", jobs.JobRetry.as_view(), name="job_retry"),
    path("runs/", cohort_runs.RunList.as_view(), name="runs"),
    path("runs/plan/", cohort_runs.RunPlan.as_view(), name="run_plan"),
    path("runs/<int:run_id>/", cohort_runs.RunDetail.as_view(), name="run"),
    path("runs/<int:run_id>/items/", cohort_runs.RunItems.as_view(), name="run_items"),
    path("runs/<int:run_id>/pause/", cohort_runs.RunPause.as_view(), name="run_pause"),
    path("runs/<int:run_id>/resume/", cohort_runs.RunResume.as_view(), name="run_resume"),
    path("runs/<int:run_id>/retry/", cohort_runs.RunRetry.as_view(), name="run_retry"),
    path("runs/<int:run_id>/extend/", cohort_runs.RunExtend.as_view(), name="run_extend"),
    path("runs/<int:run_id>/cancel/", cohort_runs.RunCancel.as_view(), name="run_cancel"),
    path("retrieval/", retrieval.Retrieval.as_view(), name="retrieval"),
    path("kaplan-meier/", survival.KaplanMeier.as_view(), name="kaplan_meier"),
    path("models/", model_versions.ModelVersionList.as_view(), name="models"),
    path("models/<int:version_id>/", model_versions.ModelVersionDetail.as_view(), name="model"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    re_path(r"", views.Unknown.as_view(), name="unknown"),
]
