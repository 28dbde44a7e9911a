// ioredis and node-redis against HOST PORT: what an application does on an ordinary day.
// NODE_PATH says where the packages are.
'use strict';
const { deepStrictEqual: equal, ok, rejects } = require('node:assert');
const Redis = require('ioredis');
const { createClient } = require('redis');

const host = process.argv[2];
const port = Number(process.argv[3]);

async function clear(scan, del) {
  for (const key of await scan()) await del(key);
}

async function ioredis() {
  const r = new Redis({ host, port, maxRetriesPerRequest: 1, connectionName: 'story' });
  const scan = async () => {
    const keys = [];
    for await (const page of r.scanStream({ match: 'js:*', count: 100 })) keys.push(...page);
    return keys;
  };
  await clear(scan, (key) => r.del(key));
  equal(await r.set('js:s', 'v'), 'OK');
  equal(await r.set('js:s', 'w', 'EX', 100, 'NX'), null);
  equal(await r.get('js:s'), 'v');
  equal(await r.mset({ 'js:a': 1, 'js:b': 2 }), 'OK');
  equal(await r.mget('js:a', 'js:none', 'js:b'), ['1', null, '2']);
  // Sent together, as one event's commands are.
  equal(await Promise.all([...Array(200).keys()].map(() => r.incr('js:n'))),
    [...Array(200).keys()].map((n) => n + 1));
  equal(await r.hset('js:h', { a: 1, b: 'zwei' }), 2);
  equal(await r.hgetall('js:h'), { a: '1', b: 'zwei' });
  equal(await r.zadd('js:z', 1, 'one', 2, 'two'), 2);
  equal(await r.zrange('js:z', 0, -1, 'WITHSCORES'), ['one', '1', 'two', '2']);
  equal(await r.rpush('js:l', 'a', 'b'), 2);
  equal(await r.lrange('js:l', 0, -1), ['a', 'b']);
  equal(await r.sadd('js:t', 'x', 'y', 'x'), 2);
  equal((await r.smembers('js:t')).sort(), ['x', 'y']);
  equal(await r.expire('js:s', 100), 1);
  ok([99, 100].includes(await r.ttl('js:s')));
  const blob = Buffer.from([...Array(65536).keys()].map((n) => n & 255));
  equal(await r.set(Buffer.from('js:\0\r\n'), blob), 'OK');
  equal(await r.getBuffer(Buffer.from('js:\0\r\n')), blob);
  const answers = await r.pipeline().set('js:p', 1).lpop('js:h').get('js:p').exec();
  equal([answers[0], answers[2]], [[null, 'OK'], [null, '1']]);
  ok(answers[1][0].message.startsWith('WRONGTYPE'));
  await rejects(r.call('NOSUCH'), /unknown command/);
  equal((await scan()).length, 10);
  await clear(scan, (key) => r.del(key));
  equal(await r.quit(), 'OK');
}

async function nodeRedis() {
  const r = createClient({ socket: { host, port, reconnectStrategy: false }, name: 'story' });
  await r.connect();
  const scan = async () => {
    const keys = [];
    for await (const key of r.scanIterator({ MATCH: 'js:*', COUNT: 100 })) keys.push(key);
    return keys;
  };
  await clear(scan, (key) => r.del(key));
  equal(await r.set('js:s', 'v', { EX: 100 }), 'OK');
  equal(await Promise.all([r.get('js:s'), r.get('js:none')]), ['v', null]);
  equal(await r.mSet([['js:a', '1'], ['js:b', '2']]), 'OK');
  equal(await r.mGet(['js:a', 'js:none', 'js:b']), ['1', null, '2']);
  equal(await Promise.all([...Array(200).keys()].map(() => r.incr('js:n'))),
    [...Array(200).keys()].map((n) => n + 1));
  equal(await r.hSet('js:h', { a: 1, b: 'zwei' }), 2);
  equal({ ...(await r.hGetAll('js:h')) }, { a: '1', b: 'zwei' });
  equal(await r.zAdd('js:z', [{ score: 1, value: 'one' }, { score: 2, value: 'two' }]), 2);
  equal(await r.zRangeWithScores('js:z', 0, -1),
    [{ value: 'one', score: 1 }, { value: 'two', score: 2 }]);
  equal(await r.lPush('js:l', ['b', 'a']), 2);
  equal(await r.lRange('js:l', 0, -1), ['a', 'b']);
  equal(await r.sAdd('js:t', ['x', 'y', 'x']), 2);
  equal((await r.sMembers('js:t')).sort(), ['x', 'y']);
  ok([99, 100].includes(await r.ttl('js:s')));
  await rejects(r.lPop('js:h'), /WRONGTYPE/);
  equal((await scan()).length, 8);
  await clear(scan, (key) => r.del(key));
  await r.quit();
}

(async () => {
  for (const story of [ioredis, nodeRedis]) {
    await story().catch((error) => {
      console.error(`${story.name}: ${error.stack}`);
      process.exit(1);
    });
  }
  console.log('ioredis and node-redis are well');
})();
