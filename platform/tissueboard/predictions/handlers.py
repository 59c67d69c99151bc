"""Job kinds of predictions. Modules that need torch are imported only where a job runs."""

from tissueboard.jobs.context import Done, JobContext
from tissueboard.jobs.registry import handler


@handler("predictions.fit_hex", queue="gpu", title="Train HEX")
def fit_hex(ctx: JobContext) -> Done:
    from . import hex_fit

    return hex_fit.fit_hex(ctx)


@handler("predictions.evaluate_hex", queue="gpu", title="Measure HEX on measured proteins")
def evaluate_hex(ctx: JobContext) -> Done:
    from . import hex_evaluate

    return hex_evaluate.evaluate_hex(ctx)


@handler("predictions.virtual_map", queue="gpu", title="Virtual protein map")
def virtual_map(ctx: JobContext) -> Done:
    from . import hex_apply

    return hex_apply.apply_hex(ctx)


@handler("predictions.dense_map", queue="gpu", title="Virtual protein map of a finer pitch")
def dense_map(ctx: JobContext) -> Done:
    from . import hex_dense

    return hex_dense.make_dense_map(ctx)


@handler("predictions.fit_risk", queue="cpu", title="Fit the risk model of a cohort")
def fit_risk(ctx: JobContext) -> Done:
    from . import risk_jobs

    return risk_jobs.fit_risk(ctx)


@handler("predictions.risk", queue="cpu", title="Risk of a patient")
def risk(ctx: JobContext) -> Done:
    from . import risk_jobs

    return risk_jobs.apply_risk(ctx)


@handler("predictions.fit_mica", queue="gpu", title="Train MICA on a cohort")
def fit_mica(ctx: JobContext) -> Done:
    from . import mica_jobs

    return mica_jobs.fit_mica(ctx)


@handler("predictions.mica", queue="gpu", title="Risk of a patient by MICA")
def mica(ctx: JobContext) -> Done:
    from . import mica_jobs

    return mica_jobs.apply_mica(ctx)


@handler("predictions.features", queue="gpu", title="Features of every tile")
def features(ctx: JobContext) -> Done:
    from . import feature_jobs

    return feature_jobs.make_features(ctx)


@handler("predictions.import_features", queue="io", title="Features made elsewhere")
def import_features(ctx: JobContext) -> Done:
    from . import feature_import

    return feature_import.publish_imported(ctx)


@handler("predictions.fit_virtues", queue="gpu", title="Train VirTues")
def fit_virtues(ctx: JobContext) -> Done:
    from . import virtues_fit

    return virtues_fit.fit_virtues(ctx)


@handler("predictions.adopt_virtues", queue="cpu", title="Take a VirTues into use on a cohort")
def adopt_virtues(ctx: JobContext) -> Done:
    from . import virtues_adopt

    return virtues_adopt.adopt_virtues(ctx)


@handler("predictions.virtues", queue="gpu", title="VirTues of a multiplex image")
def virtues(ctx: JobContext) -> Done:
    from . import virtues_apply

    return virtues_apply.apply_virtues(ctx)


@handler("predictions.fit_virtues_maps", queue="gpu", title="Train VirTues on virtual maps")
def fit_virtues_maps(ctx: JobContext) -> Done:
    from . import virtues_maps

    return virtues_maps.fit_virtues_maps(ctx)


@handler("predictions.virtues_map", queue="gpu", title="VirTues of a virtual map")
def virtues_map(ctx: JobContext) -> Done:
    from . import virtues_maps

    return virtues_maps.apply_virtues_map(ctx)


@handler("predictions.virtues_stain", queue="gpu", title="Virtual stain of a multiplex image")
def virtues_stain(ctx: JobContext) -> Done:
    from . import virtues_stain as staining

    return staining.make_stain(ctx)
