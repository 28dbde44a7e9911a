"""RQ: jobs, a dependency, retries, a failure, a scheduled job."""

import datetime
import os
import subprocess
import sys
import time

from redis import Redis
from rq import Queue, Retry
from rq.registry import FailedJobRegistry

server = Redis.from_url(os.environ["URL"])


def double(number):
    return 2 * number


def fail():
    raise RuntimeError("as it should")


def second_time():
    if server.incr("rq-tries") < 2:
        raise RuntimeError("not yet")
    return "done"


def finished(jobs, deadline):
    while not all(job.get_status(refresh=True) in ("finished", "failed") for job in jobs):
        assert time.monotonic() < deadline, [job.get_status() for job in jobs]
        time.sleep(0.05)


def main():
    import rq_jobs as tasks

    queue = Queue("godwit", connection=server)
    queue.empty()
    server.delete("rq-tries")
    jobs = [queue.enqueue(tasks.double, n, result_ttl=60) for n in range(50)]
    after = queue.enqueue(tasks.double, 21, depends_on=jobs[-1])
    broken = queue.enqueue(tasks.fail)
    retried = queue.enqueue(tasks.second_time, retry=Retry(max=2))
    later = queue.enqueue_in(datetime.timedelta(seconds=1), tasks.double, 4)
    log = open("rq-worker.log", "w+", encoding="utf-8")
    worker = subprocess.Popen(
        [sys.executable, "-m", "rq.cli", "worker", "godwit", "--url", os.environ["URL"]]
        + ["--with-scheduler"],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        finished([*jobs, after, broken, retried, later], time.monotonic() + 120)
        assert [job.return_value() for job in jobs] == [2 * n for n in range(50)]
        assert after.return_value() == 42 and retried.return_value() == "done"
        assert later.return_value() == 8
        assert broken.get_status() == "failed"
        assert broken.id in FailedJobRegistry(queue=queue).get_job_ids()
    except BaseException:
        log.seek(0)
        print(log.read()[-8000:], file=sys.stderr)
        raise
    finally:
        worker.terminate()
        worker.wait(30)
        log.close()
    print("rq: 54 jobs: a dependency, a retry, a failure, a scheduled one")


if __name__ == "__main__":
    main()
