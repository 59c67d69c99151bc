"""Kinds of jobs that only the tests know. Side effects are lines in a file named by the parameters, so that they can be counted."""

import os
import time
from pathlib import Path

from django.db import transaction

from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.jobs.registry import handler
from tissueboard.store import store


def note(path: str, line: str) -> None:
    """One appended line; O_APPEND keeps lines of two processes whole."""
    with open(path, "a") as file:
        file.write(line + "\n")


@handler("tests.echo", queue="io", title="Echo")
def echo(ctx: JobContext) -> Done:
    ctx.progress(0.5, "half way")
    temp = store.new_temp(".txt")
    temp.write_text(str(ctx.params.get("text", "")))
    key = f"tests/{ctx.job_id}/echo.txt"
    store.save(temp, key)
    return Done([OutputSpec("text", key, {"length": len(str(ctx.params.get("text", "")))})])


@handler("tests.refuse", queue="io", title="Refuse")
def refuse(ctx: JobContext) -> Done:
    raise JobRefused("NO_TISSUE", "There is no tissue on this slide.", "Look at the slide's thumbnail.")


@handler("tests.break", queue="io", title="Break")
def break_(ctx: JobContext) -> Done:
    raise ValueError("secret detail of patient 17")


@handler("tests.until_allowed", queue="io", title="Refuse until a file exists")
def until_allowed(ctx: JobContext) -> Done:
    if not Path(ctx.params["gate"]).exists():
        raise JobRefused("NOT_YET", "The gate is closed.", "Open it.")
    return Done()


@handler("tests.publish_fails", queue="io", title="Fail while saving")
def publish_fails(ctx: JobContext) -> Done:
    def publish() -> None:
        assert transaction.get_connection().in_atomic_block
        raise JobRefused("TWICE", "There is such a row already.", "Nothing needs to be done.")

    return Done([OutputSpec("row")], publish)


@handler("tests.cancelled_within", queue="io", title="Is cancelled while it runs")
def cancelled_within(ctx: JobContext) -> Done:
    from tissueboard.jobs.models import Job

    (ctx.workdir / "block").write_text("kept between attempts")
    Job.objects.filter(pk=ctx.job_id).update(cancel_requested=True)
    ctx.check()
    raise AssertionError("check() went on although the job was cancelled.")


@handler("tests.blocks", queue="cpu", title="Work in blocks")
def blocks(ctx: JobContext) -> Done:
    """`n` blocks, each noted when it is done and kept in the work folder. The first attempt waits at block `hold` for its death."""
    log, n = ctx.params["log"], ctx.params["n"]
    note(log, f"start {ctx.attempt} {os.getpid()}")
    for block in range(n):
        mark = ctx.workdir / f"{block}.done"
        if mark.exists():
            continue
        if block == ctx.params.get("hold") and ctx.attempt == 1:
            note(log, f"holding {os.getpid()}")
            while True:
                ctx.check()
                time.sleep(0.02)
        note(log, f"block {block}")
        mark.touch()
        ctx.progress((block + 1) / n, f"block {block + 1} of {n}")
    return Done([OutputSpec("blocks", facts={"n": n})], publish=lambda: note(log, "published"))


@handler("tests.bag", queue="cpu", title="Feature bag for tests")
def bag(ctx: JobContext) -> Done:
    """params: slide, version. The slide's facts steer it: {"refuse": true} refuses, {"hold": path} waits until the file exists."""
    from tissueboard.slides.models import Slide

    slide = Slide.objects.select_related("sample").get(pk=ctx.params["slide"])
    if slide.facts.get("refuse"):
        raise JobRefused("NO_TISSUE", "There is no tissue on this slide.", "Look at the slide's thumbnail.")
    while "hold" in slide.facts and not Path(slide.facts["hold"]).exists():
        ctx.check()
        time.sleep(0.02)
    return _made(ctx, slide, "feature bag", {"working slide": slide.working_sha256}, slide)


@handler("tests.niches", queue="cpu", title="Niches for tests")
def niches(ctx: JobContext) -> Done:
    from tissueboard.slides.models import Slide

    slide = Slide.objects.select_related("sample").get(pk=ctx.params["slide"])
    found = slide.predictions.get(kind="feature bag", version__children=ctx.params["version"])
    return _made(ctx, slide, "niche set", {"feature bag": found.sha256}, slide)


@handler("tests.risk", queue="io", title="Risk for tests")
def risk(ctx: JobContext) -> Done:
    """On the patient's index slide, as the real one."""
    from tissueboard.slides.models import Slide

    slide = Slide.objects.select_related("sample").get(pk=ctx.params["slide"])
    found = slide.predictions.get(kind="feature bag", version__children=ctx.params["version"])
    return _made(ctx, slide, "risk", {"feature bag": found.sha256}, None)


def _made(ctx: JobContext, slide, kind: str, inputs: dict, about) -> Done:
    """An output as the real jobs publish theirs: one row per slide (or patient), kind and version, replaced by the next."""
    import hashlib

    from tissueboard.predictions.models import Prediction

    sha = hashlib.sha256(f"{kind} {ctx.job_id}".encode()).hexdigest()

    def publish() -> None:
        facts = {"patient_id": slide.sample.patient_id, "job_id": ctx.job_id, "sha256": sha, "inputs": inputs, "code_version": "test"}
        where = {"slide": about, "kind": kind, "version_id": ctx.params["version"]}
        where |= {} if about is not None else {"patient_id": slide.sample.patient_id}
        Prediction.objects.update_or_create(**where, defaults=facts)

    return Done([OutputSpec(kind, facts={"sha256": sha})], publish)
