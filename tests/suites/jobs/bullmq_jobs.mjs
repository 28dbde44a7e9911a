// BullMQ: jobs at once, delays, priorities, retries, a failure, a flow, events.
import assert from 'node:assert';
import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq';

const url = new URL(process.env.URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const queue = new Queue('godwit', { connection });
queue.setMaxListeners(200);
const events = new QueueEvents('godwit', { connection });
const flows = new FlowProducer({ connection });
await events.waitUntilReady();
await queue.obliterate({ force: true });

const work = async (job) => {
  if (job.name === 'fail') throw new Error('as it should');
  if (job.name === 'second' && job.attemptsMade < 1) throw new Error('not yet');
  if (job.name === 'parent') {
    const children = Object.values(await job.getChildrenValues());
    return children.reduce((sum, value) => sum + value, 0);
  }
  await job.updateProgress(100);
  return job.data.number * 2;
};
const worker = new Worker('godwit', work, { connection, concurrency: 5 });
await worker.waitUntilReady();

const jobs = await queue.addBulk(
  Array.from({ length: 100 }, (_, number) => ({ name: 'double', data: { number } })),
);
const urgent = await queue.add('double', { number: 7 }, { priority: 1 });
const late = await queue.add('double', { number: 8 }, { delay: 500 });
const second = await queue.add(
  'second',
  { number: 9 },
  { attempts: 3, backoff: { type: 'fixed', delay: 100 } },
);
const broken = await queue.add('fail', {});
const flow = await flows.add({
  name: 'parent',
  queueName: 'godwit',
  children: [1, 2, 3].map((number) => ({ name: 'double', queueName: 'godwit', data: { number } })),
});

const ended = (job) => job.waitUntilFinished(events, 60_000);
const doubled = await Promise.all(jobs.map(ended));
assert.deepEqual(doubled, jobs.map((_, number) => number * 2));
assert.equal(await ended(urgent), 14);
assert.equal(await ended(late), 16);
assert.equal(await ended(second), 18);
assert.equal(await ended(flow.job), 12);
await assert.rejects(ended(broken), /as it should/);
const counts = await queue.getJobCounts('completed', 'failed', 'waiting', 'active', 'delayed');
const { completed, failed, ...rest } = counts;
assert.deepEqual([completed, failed], [107, 1]);
assert.ok(Object.values(rest).every((count) => count === 0), JSON.stringify(counts));

await worker.close();
await events.close();
await flows.close();
await queue.close();
console.log('bullmq: 108 jobs: a bulk, a priority, a delay, a retry, a failure, a flow of four');
