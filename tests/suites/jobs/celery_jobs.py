"""Celery: tasks, retries, countdowns, groups, a chord; broker and results on one server."""

import os
import subprocess
import sys

from celery import Celery, chord, group

app = Celery("celery_jobs", broker=os.environ["URL"], backend=os.environ["URL"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"priority_steps": [0, 3, 6, 9], "visibility_timeout": 30},
    task_acks_late=True,
    result_expires=60,
    worker_hijack_root_logger=False,
)


@app.task
def add(a, b):
    return a + b


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.2)
    return self.request.retries


def main():
    log = open("celery-worker.log", "w+", encoding="utf-8")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker"]
        + ["--pool", "threads", "--concurrency", "4", "--loglevel", "warning"]
        + ["--without-heartbeat", "--without-mingle", "--without-gossip"],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        sums = group(add.s(n, n) for n in range(200))()
        assert sums.get(timeout=60) == [2 * n for n in range(200)]
        assert chord((add.s(n, 1) for n in range(20)), total.s())().get(timeout=60) == 210
        assert third_time.delay().get(timeout=60) == 2
        assert add.apply_async((1, 2), countdown=1).get(timeout=60) == 3
        urgent = [add.apply_async((n, 0), priority=9 - n % 10) for n in range(40)]
        assert [result.get(timeout=60) for result in urgent] == list(range(40))
        assert app.control.ping(timeout=5), "the worker answers over pub/sub"
    except BaseException:
        log.seek(0)
        print(log.read()[-8000:], file=sys.stderr)
        raise
    finally:
        worker.terminate()
        worker.wait(30)
        log.close()
    print("celery: 263 tasks: a group, a chord, retries, a countdown, priorities, a control message")


if __name__ == "__main__":
    main()
