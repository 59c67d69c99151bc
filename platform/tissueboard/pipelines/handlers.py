"""Job kinds of pipelines."""

from tissueboard.jobs.context import Done, JobContext
from tissueboard.jobs.registry import handler


@handler("pipelines.reference", queue="io", title="Next stage of training")
def reference(ctx: JobContext) -> Done:
    from . import reference as chain

    return chain.run_stage(ctx)


@handler("pipelines.simulate_patient", queue="cpu", title="Simulate a patient")
def simulate_patient(ctx: JobContext) -> Done:
    from . import simulated

    return simulated.simulate(ctx)
