"""manage.py demo: builds the demo cohorts through the job queue and shows how far it is."""

import time

from django.core.management.base import BaseCommand
from django.db.models import Count

from tissueboard.jobs.models import Job
from tissueboard.pipelines.demo import PATIENTS, demo_cohorts, demo_users, enqueue_demo

POLL_SECONDS = 2.0
OPEN = ("created", "queued", "running", "saving")


class Command(BaseCommand):
    help = "Makes 40 simulated patients in two cohorts and four users, trains the models and applies them. Needs running workers."

    def add_arguments(self, parser):
        parser.add_argument("--patients", type=int, default=PATIENTS, help=f"Patients in both cohorts together (default {PATIENTS}).")
        parser.add_argument("--no-wait", action="store_true", help="Enqueue and return.")

    def handle(self, *args, patients: int, no_wait: bool, **options):
        users = demo_users()
        if users.password:
            self.stdout.write(f"Demo logins: {', '.join(users.names)}; password {users.password} (told once).")
        else:
            self.stdout.write(f"Demo logins: {', '.join(users.names)}; password as told when they were made.")
        self.stdout.flush()
        cohorts = demo_cohorts()
        enqueue_demo(cohorts, patients)
        if not no_wait:
            self._follow(cohorts)

    def _follow(self, cohorts):
        """One line whenever something changed, until nothing is open."""
        started, last = time.monotonic(), ""
        while True:
            jobs = Job.objects.filter(cohorts__in=cohorts).distinct()
            counts = dict(jobs.order_by().values_list("state").annotate(n=Count("pk", distinct=True)))
            running = jobs.filter(state="running").order_by("-progress").first()
            text = f"; {running.title}: {running.progress_text or 'running'}" if running else ""
            total, done = sum(counts.values()), counts.get("succeeded", 0)
            bad = sum(counts.get(state, 0) for state in ("failed", "crashed", "cancelled", "expired"))
            line = f"demo: {done} of {total} jobs done{f', {bad} failed' if bad else ''}{text}"
            if line != last:
                self.stdout.write(f"[{time.monotonic() - started:5.0f} s] {line}")
                self.stdout.flush()
                last = line
            if not any(counts.get(state) for state in OPEN):
                if bad:
                    self.stderr.write("The demo is not whole: see the jobs page for what failed and why.")
                    raise SystemExit(1)
                self.stdout.write(f"The demo is ready after {time.monotonic() - started:.0f} s.")
                return
            time.sleep(POLL_SECONDS)
